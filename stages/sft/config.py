"""Settings of `nano2 sft`."""

from typing import Annotated

from pydantic import Field, model_validator

from stages.common.config import DataPaths, ModelPath, Panel
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.sizes import Size
from stages.common.training.settings import TrainingSettings


class SftConfig(ChatDataSettings, TrainingSettings):
    """Fine-tune a model on conversations; the loss is on what the assistant writes (report, section 3.2).

    Data is chat jsonl: messages with reasoning and tool calls, or prompt and completion. Every line is checked before
    training starts. The report's three stages are three runs: recipes/nano2/sft1.yaml to sft3.yaml.
    """

    model: ModelPath = Field(description="Model to start from.")
    data: DataPaths = Field(
        min_length=1, description="Chat jsonl, with how often an epoch reads it: 0.5 is every other sample."
    )
    epochs: float = Field(1.0, gt=0, description="Times to read the data; rounded up to whole steps.")
    batch_tokens: Size = Field(gt=0, description="Tokens of one optimizer step.")
    learning_rate: Annotated[float, Panel("Schedule")] = Field(1e-5, gt=0, description="Peak learning rate.")
    warmup_fraction: Annotated[float, Panel("Schedule")] = Field(
        0.05, ge=0, le=1, description="Share of the tokens over which the learning rate rises from zero."
    )
    decay_fraction: Annotated[float, Panel("Schedule")] = Field(
        0.95, ge=0, le=1, description="Share of the tokens, at the end, over which it decays."
    )
    final_learning_rate: Annotated[float | None, Panel("Schedule")] = Field(
        None, gt=0, description="Where the decay ends; by default a tenth of the peak."
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> "SftConfig":
        if self.warmup_fraction + self.decay_fraction > 1 + 1e-9:
            raise ValueError("warmup_fraction and decay_fraction together are more than 1")
        if self.final_learning_rate is not None and self.final_learning_rate > self.learning_rate:
            raise ValueError("final_learning_rate is above learning_rate")
        return self
