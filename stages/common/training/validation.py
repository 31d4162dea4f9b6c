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


@dataclass(frozen=True)
class Validation:
    """`loss` in nats a token; `bits_per_byte` over the bytes that the predicted tokens stand for."""

    loss: float
    bits_per_byte: float
    tokens: int


@torch.no_grad()
def validate(lm: HybridLM, batches: Sequence[Batch], byte_lengths: NDArray[np.int64]) -> Validation:
    """Loss over `batches`. `byte_lengths[id]` is how many bytes of text a token stands for; 0 for special tokens."""
    nats, tokens, text_bytes = 0.0, 0, 0
    for cpu_batch in batches:
        batch = cpu_batch.to(lm.device)
        hidden = lm.hidden_states(batch.input_ids_BT, batch.document_ids_BT)
        nats += float(token_cross_entropy(hidden, lm.lm_head.weight, batch.labels_BT).total)
        labels = cpu_batch.labels_BT[cpu_batch.labels_BT != IGNORED].numpy()
        tokens += len(labels)
        text_bytes += int(byte_lengths[labels].sum())
    return Validation(nats / tokens, nats / math.log(2) / text_bytes, tokens)


class HeldOut:
    """The validator of stages that train on packed rows: their dataset's own held-out rows, `micro_batch` at a time."""

    def __init__(self, data: TrainingData, micro_batch: int) -> None:
        self._data, self._micro_batch = data, micro_batch
        self._byte_lengths = token_byte_lengths(data.directory)

    def __call__(self, lm: HybridLM, tokens: int) -> dict[str, float]:
        batches = self._data.validation_batches(tokens, self._micro_batch)
        if not batches:
            return {}
        result = validate(lm, batches, self._byte_lengths)
        return {"validation_loss": result.loss, "validation_bits_per_byte": result.bits_per_byte}


_BEFORE = "before.json"


def figures_before(measure: Callable[[], Mapping[str, float]], run_dir: Path) -> dict[str, float]:
    """Figures of the model that a run starts from, named `..._before`.

    Kept in `run_dir`: a run that goes on has no such model any more.
    """
    kept = run_dir / _BEFORE
    if not kept.exists():
        write_text_atomic(kept, json.dumps({f"{name}_before": value for name, value in measure().items()}))
    figures: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
    return figures
