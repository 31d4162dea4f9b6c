"""What is asked of a model, and how: the settings of every stage that evaluates. No torch here."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, SerializationInfo, model_validator

from stages.common.config import Cosmetic, InputPath, Panel, StageConfig, parse_names
from stages.common.sizes import Size


def parse_budgets(value: object) -> object:
    """As `parse_names`; the word none stands for no budget."""
    parts = parse_names(value)
    return tuple(None if part == "none" else part for part in parts) if isinstance(parts, tuple) else parts


def _dump_task(name: str, info: SerializationInfo) -> Any:
    """A task that is a file is an input like any other: hashed, and recorded as a parent."""
    return info.context(Path(name), None) if info.context and Path(name).is_file() else name


TASKS = Panel("Tasks")

TaskName = Annotated[str, PlainSerializer(_dump_task)]


class EvaluationSettings(StageConfig):
    """The tasks of an evaluation and how they are run, whatever the model."""

    tasks: Annotated[tuple[TaskName, ...], BeforeValidator(parse_names), TASKS] = Field(
        min_length=1,
        description="Names of tasks, groups or tags, YAML files, or jsonl files of chats; separated by commas.",
    )
    include: Annotated[tuple[InputPath, ...], TASKS] = Field(
        (), description="Directory with task YAMLs of your own."
    )
    limit: Annotated[int | None, TASKS] = Field(
        None, ge=1, le=2**31, description="Only the first N documents of each task."
    )
    num_fewshot: Annotated[int | None, TASKS] = Field(
        None, ge=0, description="Worked examples before each question; by default what the task says."
    )
    repeats: Annotated[int, TASKS] = Field(
        1, ge=1, le=1024, description="Answers to each item: mean, standard error by item, pass@k."
    )
    seed: Annotated[int, TASKS] = Field(
        0, ge=0, lt=2**32, description="Seed of the worked examples and of sampled answers."
    )

    apply_chat_template: Annotated[bool, Panel("Chat")] = Field(
        False, description="Ask through the model's chat template."
    )
    thinking: Annotated[bool | None, Panel("Chat")] = Field(
        None, description="Turn thinking on or off; by default the template decides."
    )
    think_end: Annotated[str, Panel("Chat")] = Field(
        "</think>", min_length=1, description="With a chat template, answers begin behind this text."
    )
    budgets: Annotated[
        tuple[Annotated[Size, Field(ge=0)] | None, ...], BeforeValidator(parse_budgets), Panel("Chat")
    ] = Field((), description="Thinking budgets to run the tasks at, such as 0,64,256,none.")
    thinking_grace: Annotated[Size, Panel("Chat")] = Field(
        500, ge=0, description="Tokens behind a budget in which a line end is waited for."
    )

    gen: Annotated[dict[str, Any], Panel("Generation")] = Field(
        {}, description="Overrides of the tasks' generation settings, such as max_gen_toks=64."
    )
    max_length: Annotated[Size | None, Panel("Generation")] = Field(
        None, ge=2, description="Tokens that the model reads at most; by default what its config says."
    )

    ruler_lengths: Annotated[tuple[Size, ...], BeforeValidator(parse_names), Panel("RULER")] = Field(
        (), description="Context lengths of the RULER tasks, such as 512,1024."
    )
    ruler_samples: Annotated[int | None, Panel("RULER")] = Field(
        None, ge=1, description="Samples of each RULER task at each length."
    )
    ruler_depths: Annotated[tuple[float, ...], BeforeValidator(parse_names), Panel("RULER")] = Field(
        (), description="Depths of the RULER needles, from 0 to 1; by default drawn."
    )

    device: Annotated[Literal["auto", "cpu", "cuda"], Panel("Hardware"), Cosmetic()] = Field(
        "auto", description="auto takes a GPU where there is one."
    )
    batch_tokens: Annotated[Size, Panel("Hardware"), Cosmetic()] = Field(
        4096, ge=1, description="Tokens that are scored at a time."
    )
    batch_rows: Annotated[int, Panel("Hardware"), Cosmetic()] = Field(
        32, ge=1, description="Answers that are generated at a time."
    )

    @model_validator(mode="after")
    def _check_thinking(self) -> "EvaluationSettings":
        if self.thinking is not None and not self.apply_chat_template:
            raise ValueError("thinking is turned on or off in chats: add --apply-chat-template")
        return self

    @model_validator(mode="after")
    def _check_budgets(self) -> "EvaluationSettings":
        if self.budgets and (not self.apply_chat_template or self.thinking is False):
            raise ValueError("budgets are for thinking: add --apply-chat-template, without --no-thinking")
        if len(set(self.budgets)) < len(self.budgets):
            raise ValueError("a thinking budget is named twice")
        return self
