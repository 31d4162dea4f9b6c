"""What a plan takes for a model or data that is yet to be made, so that a chain of runs can be planned before its first.

No torch here.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from model.config import HybridConfig
from stages.common.config import Cosmetic, StageConfig
from stages.common.sizes import Size

Preset = Annotated[str | None, Cosmetic()]


class PresetSettings(StageConfig):
    """For the plan alone: a run needs the model."""

    preset: Preset = Field(None, description="Shape for --plan where the model is not there: nano2-12b, ...")


class PlannedRows(StageConfig):
    """For the plan of a stage whose rows are as long as its data is packed."""

    planned_seq_len: Annotated[Size | None, Cosmetic()] = Field(
        None, ge=16, description="Tokens in a row for --plan where the data is not there."
    )


class PlannedTokens(StageConfig):
    """For the plan of a stage that reads its data in epochs."""

    planned_tokens: Annotated[Size | None, Cosmetic()] = Field(
        None,
        gt=0,
        description="Tokens of an epoch for --plan where the model, whose tokens they are, is not there.",
    )


def preset_shape(model: Path, preset: str | None) -> HybridConfig | None:
    """The preset's shape, where one is given and the model is not there."""
    return HybridConfig.preset(preset) if preset is not None and not model.exists() else None


def preset_warning(model: Path, preset: str | None, what: str) -> str:
    """What such a plan says. what: what it lacks."""
    return f"{model} is not there: this is the plan for the shape {preset}, {what}"


def missing_rows_warning(seq_len: int) -> str:
    """What a plan says whose data is not there."""
    return f"the data is not there: this is the plan for rows of {seq_len} tokens"
