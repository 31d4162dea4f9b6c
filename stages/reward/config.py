"""Settings of `nano2 reward`."""

from typing import Annotated

from pydantic import Field

from stages.common.config import DataPaths, ModelPath, Panel
from stages.common.preferences.settings import PairSettings
from stages.common.preset import PlannedTokens, PresetSettings
from stages.common.training.settings import TrainingSettings


class RewardConfig(PresetSettings, PlannedTokens, PairSettings, TrainingSettings):
    """Train a reward model on preference pairs (Bradley-Terry), to score answers in `nano2 grpo` (report, section 3.2).

    The result is a checkpoint with a score head. It reads a conversation without reasoning, up to the end of the last
    answer. A pair counts as much as its `strength` says.
    """

    model: ModelPath = Field(description="Model to start from.")
    data: DataPaths = Field(
        min_length=1,
        description="Jsonl of preference pairs, with how often an epoch reads it: 0.5 is every other pair.",
    )
    epochs: float = Field(1.0, gt=0, description="Times to read the pairs; rounded up to whole steps.")
    learning_rate: Annotated[float, Panel("Schedule")] = Field(
        5e-6, gt=0, description="Constant learning rate."
    )
    warmup_steps: Annotated[int, Panel("Schedule")] = Field(
        0, ge=0, description="Steps over which it rises from zero."
    )
