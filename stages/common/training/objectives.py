"""What a training step minimizes, and what it is told about: an objective is a function of model and batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.loss import token_cross_entropy
from stages.common.training.batches import Batch


class StepBatch(Protocol):
    """The rows of an optimizer step, [B, T], and what an objective needs to know of them besides.

    count: how many things (tokens, pairs) the loss is a mean over.
    """

    @property
    def input_ids_BT(self) -> Tensor: ...

    @property
    def document_ids_BT(self) -> Tensor: ...

    @property
    def count(self) -> int: ...

    def rows(self, start: int, end: int) -> Self: ...

    def to(self, device: torch.device) -> Self: ...


B = TypeVar("B", bound=StepBatch)


@dataclass(frozen=True)
class Loss:
    """Of some rows: the sum of their losses, which carries the gradient, and other sums by name, for the log."""

    total: Tensor
    sums: Mapping[str, float] = field(default_factory=dict)


Objective = Callable[[HybridLM, B], Loss]


def cross_entropy(lm: HybridLM, batch: Batch) -> Loss:
    """Sum over the batch's labels of -log p(label), nats."""
    hidden_BTD = lm.hidden_states(batch.input_ids_BT, batch.document_ids_BT)
    return Loss(token_cross_entropy(hidden_BTD, lm.lm_head.weight, batch.labels_BT).total)
