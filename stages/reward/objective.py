"""What a step of reward minimizes, and the ranking of held-out pairs."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.reward import ScoredLM
from stages.common.preferences.batches import PairBatch
from stages.common.training.objectives import Loss
from stages.reward.loss import ranking_losses


def side_scores(lm: ScoredLM, batch: PairBatch) -> Tensor:
    """[P, 2] scores at the ends of both sides of each pair."""
    rows = [span.row for span in batch.spans for _ in range(2)]
    ends = [end - 1 for span in batch.spans for end in (span.middle, span.end)]
    places = (torch.tensor(each, device=lm.device) for each in (rows, ends))
    return lm.scores(batch.input_ids_BT, batch.document_ids_BT, *places).view(-1, 2)


def ranking_objective(lm: HybridLM, batch: PairBatch) -> Loss:
    """Sum over the pairs of their Bradley-Terry losses, each times its strength."""
    assert isinstance(lm, ScoredLM)
    scores_P2 = side_scores(lm, batch)
    losses_P = ranking_losses(scores_P2, batch.strength_P)
    scores = scores_P2.detach()
    return Loss(
        losses_P.sum(),
        {
            "accuracy": float((scores[:, 0] > scores[:, 1]).sum()),
            "margin": float((scores[:, 0] - scores[:, 1]).sum()),
            "scores/chosen": float(scores[:, 0].sum()),
            "scores/rejected": float(scores[:, 1].sum()),
        },
    )


@torch.no_grad()
def measure(lm: HybridLM, batches: Sequence[PairBatch]) -> dict[str, float]:
    """Loss, share of pairs that are ranked right, and margin; nothing where nothing is held out."""
    sums = Counter[str]()
    for batch in batches:
        loss = ranking_objective(lm, batch.to(lm.device))
        sums.update({"loss": float(loss.total), **loss.sums})
    count = sum(batch.count for batch in batches)
    return (
        {f"validation_{name}": sums[name] / count for name in ("loss", "accuracy", "margin")} if count else {}
    )
