"""Settings of `nano2 pretrain`."""

from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from stages.common.config import Panel
from stages.common.preset import PlannedRows
from stages.common.sizes import Size
from stages.common.training.settings import TrainingSettings


class PretrainConfig(PlannedRows, TrainingSettings):
    """Train a model from fresh weights on packed text (report, section 2).

    Learning rate by the warmup-stable-decay schedule, counted in tokens; the blend switches to the second and third
    phase of the data at 60% and 90%. Interrupted at any moment, the same command continues bit for bit.
    """

    tokens: Size = Field(gt=0, description="Tokens to train on; rounded up to whole steps.")
    batch_tokens: Size = Field(gt=0, description="Tokens of one optimizer step.")
    learning_rate: Annotated[float, Panel("Schedule")] = Field(
        4.5e-4, gt=0, description="Peak learning rate."
    )
    preset: Annotated[str, Panel("Model")] = Field(
        description="Name of a shape: mini-3m, mini-8m, nano2-9b, ..."
    )
    shape: Annotated[dict[str, JsonValue], Panel("Model")] = Field(
        {}, description="Fields of the shape to change, such as hidden_size=256."
    )
    warmup_tokens: Annotated[Size, Panel("Schedule")] = Field(
        0, ge=0, description="Tokens of the linear warmup from zero."
    )
    decay_fraction: Annotated[float, Panel("Schedule")] = Field(
        0.18, ge=0, le=1, description="Share of the tokens, at the end, over which the learning rate decays."
    )
    final_learning_rate: Annotated[float | None, Panel("Schedule")] = Field(
        None, gt=0, description="Where the decay ends; by default a hundredth of the peak."
    )
    phase_boundaries: Annotated[tuple[float, ...], Panel("Schedule")] = Field(
        (0.6, 0.9), description="Shares of the tokens at which the next phase of the blend begins."
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> "PretrainConfig":
        if self.warmup_tokens + self.decay_fraction * self.tokens > self.tokens:
            raise ValueError("warmup_tokens and the decay together are longer than the run")
        if self.final_learning_rate is not None and self.final_learning_rate > self.learning_rate:
            raise ValueError("final_learning_rate is above learning_rate")
        return self
