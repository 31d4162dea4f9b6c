"""Epochs of chat data in steps: how often a source is read, how many steps that makes."""

import math
from collections.abc import Mapping

from model.errors import UsageError
from stages.common.sizes import LARGEST
from stages.common.training.steps import StepShape
from stages.sft.config import SftConfig


def blend_of_epoch(rows: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, float]:
    """Rows that an epoch reads of each source: all of them, times the source's weight."""
    return {name: count * weights[name] for name, count in rows.items()}


def step_shape(config: SftConfig, rows_of_epoch: float) -> StepShape:
    """The steps that read `config.epochs` epochs, at least one. UsageError for more tokens than can be counted."""
    rows = rows_of_epoch * config.epochs
    if rows > LARGEST / config.seq_len:
        raise UsageError(
            f"{config.epochs:g} epochs of {rows_of_epoch:g} rows are more tokens than can be counted",
            where="epochs",
            remedy="give fewer epochs, or a smaller weight to the data",
        )
    tokens = math.ceil(rows) * config.seq_len
    return StepShape.of(tokens, config.batch_tokens, seq_len=config.seq_len, micro_batch=config.micro_batch)
