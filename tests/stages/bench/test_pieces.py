"""Rows in pieces, one after the other in one process: the loss and the gradients are those of whole rows."""

import pytest
import torch

from model.config import HybridConfig
from model.hybrid import HybridLM
from model.loss import next_token_labels
from stages.bench.train.pieces import cross_entropy_in_pieces
from stages.common.training.batches import Batch
from stages.common.training.objectives import cross_entropy


@pytest.mark.parametrize("documents", [1, 3])
@pytest.mark.parametrize("pieces", [2, 4])
def test_loss_and_gradients_are_those_of_whole_rows(pieces: int, documents: int) -> None:
    torch.manual_seed(0)
    lm = HybridLM(HybridConfig.preset("tiny")).double()
    ids_BT = torch.randint(512, (2, 64))
    document_ids_BT = (torch.arange(64) * documents // 64).expand(2, -1)
    batch = Batch(ids_BT, document_ids_BT, next_token_labels(ids_BT, document_ids_BT))
    whole = cross_entropy(lm, batch).total
    gradients = torch.autograd.grad(whole, list(lm.parameters()))
    cut = cross_entropy_in_pieces(lm, batch, pieces).total
    assert cut.item() == pytest.approx(whole.item(), rel=1e-12)
    for mine, expected in zip(torch.autograd.grad(cut, list(lm.parameters())), gradients, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)
    assert lm.context is None
