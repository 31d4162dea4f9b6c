"""Settings of `nano2 dpo`."""

from typing import Annotated

from pydantic import Field, model_validator

from stages.common.config import DataPaths, InputPath, ModelPath, Panel
from stages.common.preferences.settings import PairSettings
from stages.common.preset import PresetSettings
from stages.common.sizes import Size
from stages.common.training.settings import TrainingSettings

_ROUNDS = Panel("Rounds of the model's own answers (with --prompts)")
_OF_FILES = (
    "epochs",
    "validation",
    "validation_fraction",
    "data_seed",
    "validate_every",
    "validation_tokens",
)
_OF_ROUNDS = (
    *(
        "rounds",
        "steps_per_round",
        "prompts_per_round",
        "samples",
        "pairs_per_prompt",
        "max_tokens",
        "max_turns",
    ),
    *("temperature", "top_p", "top_k", "thinking_budget", "rollout_rows"),
)


class DpoConfig(PresetSettings, PairSettings, TrainingSettings):
    """Prefer right answers to wrong ones (direct preference optimization; report, section 3.2).

    From files of pairs (-d), or from the model's own answers to graded questions (--prompts): each round samples answers,
    pairs right with wrong ones, and trains on them. The reference is the model as it is when a round begins.
    """

    model: ModelPath = Field(description="Model to start from; the first reference.")
    data: DataPaths = Field(
        (),
        description="Jsonl of preference pairs, with how often an epoch reads it: 0.5 is every other pair.",
    )
    prompts: tuple[InputPath, ...] = Field(
        (), description="Chat jsonl with graders, to make pairs of the model's own answers instead."
    )
    epochs: float = Field(1.0, gt=0, description="Times to read the pairs of -d; rounded up to whole steps.")
    beta: Annotated[float, Panel("Loss")] = Field(
        0.05, gt=0, description="Weight of the distance from the reference in the implicit reward."
    )
    label_smoothing: Annotated[float, Panel("Loss")] = Field(
        0.0, ge=0, lt=0.5, description="Share of the pairs taken to be the wrong way round."
    )
    sft_weight: Annotated[float, Panel("Loss")] = Field(
        0.0, ge=0, description="Weight of the chosen answers' own cross-entropy."
    )
    learning_rate: Annotated[float, Panel("Schedule")] = Field(
        5e-6, gt=0, description="Constant learning rate."
    )
    warmup_steps: Annotated[int, Panel("Schedule")] = Field(
        0, ge=0, description="Steps over which it rises from zero."
    )
    rounds: Annotated[int, _ROUNDS] = Field(
        1, ge=1, le=10_000, description="Rounds of sampling and training."
    )
    steps_per_round: Annotated[int, _ROUNDS] = Field(
        8, ge=1, le=1_000_000, description="Optimizer steps on the pairs of a round."
    )
    prompts_per_round: Annotated[int | None, _ROUNDS] = Field(
        None, ge=1, description="Questions asked in a round; by default all."
    )
    samples: Annotated[int, _ROUNDS] = Field(8, ge=2, le=10_000, description="Answers to each question.")
    pairs_per_prompt: Annotated[int, _ROUNDS] = Field(
        4, ge=1, description="Most pairs of one question; each answer is in one of them at most."
    )
    max_tokens: Annotated[Size, _ROUNDS] = Field(
        1024, ge=1, description="Tokens that an answer may have, in all its turns."
    )
    max_turns: Annotated[int, _ROUNDS] = Field(8, ge=1, description="Turns of an answer that calls tools.")
    temperature: Annotated[float, _ROUNDS] = Field(1.0, gt=0, description="Of sampling.")
    top_p: Annotated[float, _ROUNDS] = Field(
        1.0, gt=0, le=1, description="Sample from the likeliest tokens of this mass."
    )
    top_k: Annotated[int, _ROUNDS] = Field(
        0, ge=0, description="Sample from so many likeliest tokens; 0 from all."
    )
    thinking_budget: Annotated[int | None, _ROUNDS] = Field(
        None,
        ge=0,
        description="Tokens of thinking in a turn, after which it is closed; what closes it is not trained.",
    )
    rollout_rows: Annotated[int, _ROUNDS] = Field(32, ge=1, description="Answers that are sampled together.")

    @model_validator(mode="after")
    def _one_source(self) -> "DpoConfig":
        self.refuse_fp8("the reference is")
        if bool(self.data) == bool(self.prompts):
            raise ValueError(
                "give either pairs (-d) or questions (--prompts)" + (", not both" if self.data else "")
            )
        ours, unused = ("--prompts", _OF_FILES) if self.prompts else ("-d", _OF_ROUNDS)
        for name in unused:
            if name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no use with {ours}: leave it out")
        return self
