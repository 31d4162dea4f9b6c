"""Whole pairs in rows: documents 2k and 2k + 1 of a row are the chosen and the rejected side of its k-th pair.

Shapes: B rows, T tokens (of the fullest row), P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.logprobs import token_logprobs
from model.loss import next_token_labels
from stages.common.data.packing import PADDING_DOCUMENT, best_fit_decreasing
from stages.common.preferences.encoding import EncodedPair


@dataclass(frozen=True)
class Span:
    """Where a pair stands: the chosen side is `start` to `middle` - 1 of its row, the rejected one goes on to `end` - 1."""

    row: int
    start: int
    middle: int
    end: int


@dataclass(frozen=True)
class PairBatch:
    """`labels_BT` are next tokens, IGNORED where the mask is 0. `spans`, `strength_P` and `reference_P2` (the reference's
    log-probabilities of chosen and rejected sides, nats; NaN where nobody asked for them) are of pair after pair.

    order: which of the pairs that the batch was made of each one is. chosen_tokens_per_pair: of the whole step, the mean
    number of labels on a chosen side.
    """

    input_ids_BT: Tensor
    document_ids_BT: Tensor
    labels_BT: Tensor
    spans: tuple[Span, ...]
    strength_P: Tensor
    reference_P2: Tensor
    order: tuple[int, ...]
    chosen_tokens_per_pair: float

    @classmethod
    def of(
        cls, pairs: Sequence[EncodedPair], reference_P2: Tensor | None, *, seq_len: int, pad_id: int
    ) -> "PairBatch":
        """Rows of up to `seq_len` tokens, no longer than the fullest needs. No pair may be longer than `seq_len`."""
        rows = best_fit_decreasing([pair.length for pair in pairs], seq_len)
        width = max(sum(pairs[index].length for index in row) for row in rows)
        input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)
        document_ids = np.full_like(input_ids, PADDING_DOCUMENT)
        mask = np.zeros_like(input_ids)
        spans: list[Span] = []
        for number, row in enumerate(rows):
            start = 0
            for rank, index in enumerate(row):
                pair = pairs[index]
                middle, end = start + len(pair.chosen.ids), start + pair.length
                for side, (first, last) in enumerate(((start, middle), (middle, end))):
                    document = (pair.chosen, pair.rejected)[side]
                    input_ids[number, first:last] = document.ids
                    document_ids[number, first:last] = 2 * rank + side
                    mask[number, first:last] = document.mask
                spans.append(Span(number, start, middle, end))
                start = end
        order = [index for row in rows for index in row]
        if reference_P2 is None:
            reference_P2 = torch.full((len(pairs), 2), torch.nan)
        input_ids_BT, document_ids_BT = torch.from_numpy(input_ids), torch.from_numpy(document_ids)
        return cls(
            input_ids_BT,
            document_ids_BT,
            next_token_labels(input_ids_BT, document_ids_BT, torch.from_numpy(mask)),
            tuple(spans),
            torch.tensor([pairs[index].strength for index in order]),
            reference_P2[order],
            tuple(order),
            sum(int(pair.chosen.mask[1:].sum()) for pair in pairs) / len(pairs),
        )

    @property
    def count(self) -> int:
        return len(self.spans)

    def rows(self, start: int, end: int) -> "PairBatch":
        kept = [index for index, span in enumerate(self.spans) if start <= span.row < end]
        return PairBatch(
            self.input_ids_BT[start:end],
            self.document_ids_BT[start:end],
            self.labels_BT[start:end],
            tuple(replace(self.spans[index], row=self.spans[index].row - start) for index in kept),
            self.strength_P[kept],
            self.reference_P2[kept],
            tuple(self.order[index] for index in kept),
            self.chosen_tokens_per_pair,
        )

    def to(self, device: torch.device) -> "PairBatch":
        return replace(
            self,
            input_ids_BT=self.input_ids_BT.to(device),
            document_ids_BT=self.document_ids_BT.to(device),
            labels_BT=self.labels_BT.to(device),
            strength_P=self.strength_P.to(device),
            reference_P2=self.reference_P2.to(device),
        )


def answer_logprobs(lm: HybridLM, batch: PairBatch) -> Tensor:
    """[P, 2] sums of the log-probabilities, nats, of what the mask marks in the chosen and the rejected side."""
    hidden_BTD = lm.hidden_states(batch.input_ids_BT, batch.document_ids_BT)
    logprobs_BT, _ = token_logprobs(hidden_BTD, lm.lm_head.weight, batch.labels_BT)
    sums = [
        logprobs_BT[span.row, first:last].sum()
        for span in batch.spans
        for first, last in ((span.start, span.middle), (span.middle, span.end))
    ]
    return torch.stack(sums).view(-1, 2)
