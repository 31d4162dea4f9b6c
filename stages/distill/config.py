"""Settings of `nano2 distill`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.common.config import (
    WEIGHTED_PATH,
    Cosmetic,
    DataPaths,
    InputPath,
    ModelPath,
    Panel,
    WeightedPath,
)
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.distillation.settings import DistillationSettings
from stages.common.preset import Preset, PresetSettings
from stages.common.sizes import Size
from stages.common.training.settings import ScheduleSettings, TrainingSettings


class DistillConfig(
    PresetSettings, ChatDataSettings, DistillationSettings, ScheduleSettings, TrainingSettings
):
    """Train a model to give every token the probability that a teacher gives it (report, section 4.3).

    The loss is the forward KL divergence on logits, over a blend of packed text and chats; of chats, where the assistant
    writes. Longer rows are another run on the student that the first one made: recipes/nano2/distill-*.yaml.
    """

    model: ModelPath = Field(description="Student to train.")
    teacher: InputPath = Field(
        description="Model to learn from, with the student's tokenizer and vocabulary."
    )
    teacher_preset: Preset = Field(
        None, description="Shape of the teacher for --plan where that is not there."
    )
    data: DataPaths = Field((), description="Packed dataset, with its share of the rows.")
    chats: Annotated[tuple[WeightedPath, ...], WEIGHTED_PATH] = Field(
        (), description="Chat jsonl, with its share of the rows."
    )
    tokens: Size = Field(gt=0, description="Tokens to train on; rounded up to whole steps.")
    batch_tokens: Size = Field(gt=0, description="Tokens of one optimizer step.")
    learning_rate: Annotated[float, Panel("Schedule")] = Field(1e-4, gt=0, description="Peak learning rate.")
    teacher_dtype: Annotated[Literal["float32", "bfloat16"] | None, Panel("Teacher")] = Field(
        None, description="Of the teacher's weights; by default float32 on a CPU and bfloat16 on a GPU."
    )
    top_k: Annotated[int | None, Panel("Teacher")] = Field(
        None,
        ge=1,
        le=4096,
        description="Keep the teacher's so many likeliest tokens at each position before training, and train on those.",
    )
    cache: Annotated[Path | None, Cosmetic(), Panel("Teacher")] = Field(
        None, description="Directory that keeps what --top-k took, for other runs; by default OUT.run."
    )

    @model_validator(mode="after")
    def _something_to_read(self) -> Self:
        if not self.data and not self.chats:
            raise ValueError(
                "there is nothing to train on: give packed text with -d, chats with --chats, or both"
            )
        if self.cache is not None and self.top_k is None:
            raise ValueError("cache keeps what top_k takes: give top_k, too")
        return self
