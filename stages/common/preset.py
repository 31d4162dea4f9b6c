"""The shape of a model that is yet to be made, so that a chain of runs can be planned before its first. No torch here."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from model.config import HybridConfig
from stages.common.config import Cosmetic, StageConfig

Preset = Annotated[str | None, Cosmetic()]


class PresetSettings(StageConfig):
    """For the plan alone: a run needs the model."""

    preset: Preset = Field(None, description="Shape for --plan where the model is not there: nano2-12b, ...")


def preset_shape(model: Path, preset: str | None) -> HybridConfig | None:
    """The preset's shape, where one is given and the model is not there."""
    return HybridConfig.preset(preset) if preset is not None and not model.exists() else None


def preset_warning(model: Path, preset: str | None, what: str) -> str:
    """What such a plan says. what: what it lacks."""
    return f"{model} is not there: this is the plan for the shape {preset}, {what}"
