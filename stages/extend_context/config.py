"""Settings of `nano2 extend-context`."""

from typing import Annotated

from pydantic import Field

from stages.common.config import ModelPath, Panel
from stages.common.preset import PlannedRows, PresetSettings
from stages.common.sizes import Size
from stages.common.training.settings import TrainingSettings


class ExtendContextConfig(PresetSettings, PlannedRows, TrainingSettings):
    """Continue pretraining on longer rows at a constant learning rate (report, phase LC).

    The data is the last blend of pretraining and documents with question-answer pairs behind them (`nano2 data longqa`),
    80 to 20 in the report, both packed to the new length. There is no position encoding to rescale; the length that the
    config and the tokenizer declare is raised to that of the rows.
    """

    model: ModelPath = Field(description="Pretrained model.")
    tokens: Size = Field(gt=0, description="Tokens to train on; rounded up to whole steps.")
    batch_tokens: Size | None = Field(
        None,
        gt=0,
        description="Tokens of one optimizer step; by default as many as the model's pretraining took.",
    )
    learning_rate: Annotated[float | None, Panel("Schedule")] = Field(
        None, gt=0, description="Constant; by default where the decay of the model's pretraining ended."
    )
