"""What a stage that learns from pairs lets the user say about them. No torch here."""

from typing import Annotated

from pydantic import Field

from stages.common.config import InputPath, Panel, StageConfig
from stages.common.sizes import Size

_PANEL = Panel("Pairs")


class PairSettings(StageConfig):
    """How pair jsonl becomes rows of tokens."""

    seq_len: Annotated[Size, _PANEL] = Field(
        8192,
        ge=16,
        le=1 << 24,
        description="Tokens in a row, which holds whole pairs; longer pairs are left out and counted.",
    )
    batch_pairs: Annotated[int, _PANEL] = Field(
        128, gt=0, le=1 << 24, description="Pairs of one optimizer step."
    )
    validation: Annotated[tuple[InputPath, ...], _PANEL] = Field(
        (), description="Jsonl of pairs to validate on, besides those held out of -d."
    )
    validation_fraction: Annotated[float, _PANEL] = Field(
        0.05, ge=0, le=0.5, description="Share of pairs held out for validation."
    )
    data_seed: Annotated[int, _PANEL] = Field(0, ge=0, description="Chooses the pairs to hold out.")
