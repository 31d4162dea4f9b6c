"""Log-probabilities of all answers under the model as it is, which stays the reference while it is trained."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.errors import ArtifactError
from model.hybrid import HybridLM
from stages.common.preferences.batches import PairBatch, answer_logprobs
from stages.common.preferences.encoding import EncodedPair
from stages.common.preferences.settings import PairSettings
from stages.common.reporter import Reporter


@torch.no_grad()
def reference_logprobs(
    lm: HybridLM,
    pairs: Sequence[EncodedPair],
    settings: PairSettings,
    *,
    pad_id: int,
    micro_batch: int,
    reporter: Reporter,
    check: Callable[[], None] = lambda: None,
) -> Tensor:
    """[P, 2] sums over the answers of each pair, nats, float32 on the CPU; `check` is called between micro-batches.

    ArtifactError for an answer whose log-probability is not finite: the model cannot say it at all.
    """
    reference_P2 = torch.zeros(len(pairs), 2)
    block = settings.batch_pairs
    with reporter.progress("reference log-probabilities", total=len(pairs), unit="pair") as bar:
        for first in range(0, len(pairs), block):
            whole = PairBatch.of(pairs[first : first + block], None, seq_len=settings.seq_len, pad_id=pad_id)
            for start in range(0, len(whole.input_ids_BT), micro_batch):
                check()
                batch = whole.rows(start, start + micro_batch).to(lm.device)
                places = [first + index for index in batch.order]
                reference_P2[places] = answer_logprobs(lm, batch).float().cpu()
                bar.update(batch.count)
    for pair, logps in zip(pairs, reference_P2.tolist(), strict=True):
        if not all(map(math.isfinite, logps)):
            raise ArtifactError(
                f"the model gives its answers the log-probabilities {logps}, which are no reference",
                where=pair.place,
                remedy="check the model's weights with `nano2 verify`, or remove the pair",
            )
    return reference_P2
