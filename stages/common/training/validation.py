"""Held-out loss in nats a token and in bits per byte of text, which does not depend on the tokenizer."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.artifact.staging import write_text_atomic
from model.hybrid import HybridLM
from model.loss import IGNORED, token_cross_entropy
from stages.common.data.text_tokenizer import token_byte_lengths
from stages.common.training.batches import Batch, TrainingData
from stages.common.training.team import OneProcess, Team


@dataclass(frozen=True)
class Validation:
    """`loss` in nats a token; `bits_per_byte` over the bytes that the predicted tokens stand for."""

    loss: float
    bits_per_byte: float
    tokens: int


@torch.no_grad()
def validate(
    lm: HybridLM, batches: Sequence[Batch], byte_lengths: NDArray[np.int64], team: Team | None = None
) -> Validation:
    """Loss over `batches`. `byte_lengths[id]` is how many bytes of text a token stands for; 0 for special tokens."""
    team = team or OneProcess()
    nats = 0.0
    for whole_batch, share in team.mine(batches):
        batch = team.cut(whole_batch).to(lm.device)
        hidden = lm.hidden_states(batch.input_ids_BT, batch.document_ids_BT)
        nats += share * float(token_cross_entropy(hidden, lm.lm_head.weight, batch.labels_BT).total)
    (nats,) = team.add([nats])
    labels = np.concatenate([batch.labels_BT[batch.labels_BT != IGNORED].numpy() for batch in batches])
    return Validation(nats / len(labels), nats / math.log(2) / int(byte_lengths[labels].sum()), len(labels))


class HeldOut:
    """The validator of stages that train on packed rows: their dataset's own held-out rows, `micro_batch` at a time."""

    def __init__(self, data: TrainingData, micro_batch: int, team: Team | None = None) -> None:
        self._data, self._micro_batch, self._team = data, micro_batch, team
        self._byte_lengths = token_byte_lengths(data.directory)

    def __call__(self, lm: HybridLM, tokens: int) -> dict[str, float]:
        batches = self._data.validation_batches(tokens, self._micro_batch)
        if not batches:
            return {}
        result = validate(lm, batches, self._byte_lengths, self._team)
        return {"validation_loss": result.loss, "validation_bits_per_byte": result.bits_per_byte}


_BEFORE = "before.json"


def figures_before(measure: Callable[[], Mapping[str, float]], run_dir: Path, team: Team) -> dict[str, float]:
    """Figures of the model that a run starts from, named `..._before`.

    Kept in `run_dir`: a run that goes on has no such model any more.
    """
    kept = run_dir / _BEFORE
    (known,) = team.any(team.first and kept.exists())
    figures: dict[str, float]
    if known:
        figures = json.loads(kept.read_text(encoding="utf-8"))
    else:
        figures = {f"{name}_before": value for name, value in measure().items()}
        if team.first:
            write_text_atomic(kept, json.dumps(figures))
    return figures
