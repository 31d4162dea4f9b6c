"""Settings of `nano2 sft`."""

from typing import Annotated

from pydantic import Field

from stages.common.config import DataPaths, ModelPath, Panel
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.preset import PlannedTokens, PresetSettings
from stages.common.sizes import Size
from stages.common.training.settings import ScheduleSettings, TrainingSettings


class SftConfig(PresetSettings, PlannedTokens, ChatDataSettings, ScheduleSettings, TrainingSettings):
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
