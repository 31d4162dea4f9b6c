"""What a training step minimizes: a function of model and batch that returns the summed loss, in nats."""

from collections.abc import Callable

from torch import Tensor

from model.hybrid import HybridLM
from model.loss import token_cross_entropy
from stages.common.training.batches import Batch

Objective = Callable[[HybridLM, Batch], Tensor]


def cross_entropy(lm: HybridLM, batch: Batch) -> Tensor:
    """Sum over the batch's labels of -log p(label), nats."""
    hidden_BTD = lm.hidden_states(batch.input_ids_BT, batch.document_ids_BT)
    return token_cross_entropy(hidden_BTD, lm.lm_head.weight, batch.labels_BT).total
