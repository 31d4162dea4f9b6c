"""Settings of `nano2 eval`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from stages.common.config import Cosmetic, InputPath, ModelPath, Panel, StageConfig
from stages.common.sizes import Size


def parse_names(value: object) -> object:
    """Names from `a,b` as a flag gives them; the items of a list may be written so, too."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        return value
    return tuple(name.strip() for item in value for name in item.split(",") if name.strip())


class EvalConfig(StageConfig):
    """Measure a model on lm-eval tasks, in this process and without the network.

    The tasks named nano2_... come with nano2: --tasks nano2_base runs those for base models, nano2_math the mathematics.
    OUT holds results.json as lm-eval writes it, and with --samples every question and answer. --plan lists the tasks.
    """

    model: ModelPath = Field(description="Model to measure.")
    tasks: Annotated[tuple[str, ...], BeforeValidator(parse_names)] = Field(
        min_length=1, description="Names of tasks, groups or tags, or YAML files; separated by commas."
    )
    include: tuple[InputPath, ...] = Field((), description="Directory with task YAMLs of your own.")
    limit: int | None = Field(None, ge=1, description="Only the first N documents of each task.")
    num_fewshot: int | None = Field(
        None, ge=0, description="Worked examples before each question; by default what the task says."
    )
    seed: int = Field(0, ge=0, description="Seed of the worked examples and of sampled answers.")
    samples: bool = Field(True, description="Also write samples_TASK.jsonl.")

    apply_chat_template: Annotated[bool, Panel("Chat")] = Field(
        False, description="Ask through the model's chat template."
    )
    thinking: Annotated[bool | None, Panel("Chat")] = Field(
        None, description="Turn thinking on or off; by default the template decides."
    )
    think_end: Annotated[str, Panel("Chat")] = Field(
        "</think>", min_length=1, description="With a chat template, answers begin behind this text."
    )

    gen: Annotated[dict[str, Any], Panel("Generation")] = Field(
        {}, description="Overrides of the tasks' generation settings, such as max_gen_toks=64."
    )
    max_length: Annotated[Size | None, Panel("Generation")] = Field(
        None, ge=2, description="Tokens that the model reads at most; by default what its config says."
    )

    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, Panel("Hardware")] = Field(
        None, description="Load the weights so; by default as they are stored."
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
