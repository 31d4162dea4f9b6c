"""Training and validating on a teacher's logits that were kept, without the teacher."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.loss import TokenLosses
from stages.common.distillation.loss import TopK, top_k_kl
from stages.common.distillation.objective import held_out_divergence
from stages.common.training.batches import Batch, Place, RowStream, TrainingData
from stages.common.training.validation import HeldOut
from stages.distill.cache import Entry, LogitCache


@dataclass(frozen=True)
class CachedBatch:
    """Rows, and of each what the teacher said."""

    batch: Batch
    entries: tuple[Entry, ...]

    @property
    def input_ids_BT(self) -> Tensor:
        return self.batch.input_ids_BT

    @property
    def document_ids_BT(self) -> Tensor:
        return self.batch.document_ids_BT

    @property
    def labels_BT(self) -> Tensor:
        return self.batch.labels_BT

    @property
    def count(self) -> int:
        return self.batch.count

    def rows(self, start: int, end: int) -> "CachedBatch":
        return CachedBatch(self.batch.rows(start, end), self.entries[start:end])

    def to(self, device: torch.device) -> "CachedBatch":
        return CachedBatch(self.batch.to(device), tuple(entry.to(device) for entry in self.entries))

    @property
    def top(self) -> TopK:
        """At the tokens with a label, in their order."""
        logprobs_nk1 = torch.cat([entry.logprobs for entry in self.entries]).float()
        return TopK(
            torch.cat([entry.ids for entry in self.entries]).long(),
            logprobs_nk1 - logprobs_nk1.logsumexp(1, keepdim=True),
        )


@dataclass(frozen=True)
class CachedRows:
    """Rows of the data with what the cache says of them."""

    data: TrainingData
    cache: LogitCache

    def rows(self, places: list[Place]) -> CachedBatch:
        return CachedBatch(self.data.rows(places), tuple(self.cache.entry(place) for place in places))


class CachedStream:
    """The batches of a `RowStream`, with the teacher's logits."""

    def __init__(self, rows: CachedRows, stream: RowStream) -> None:
        self._rows, self._stream = rows, stream

    def batch(self, step: int) -> CachedBatch:
        return self._rows.rows(self._stream.places(step))

    def figures(self, step: int) -> Mapping[str, float]:
        return self._stream.figures(step)

    def describe(self, step: int, start: int, end: int) -> str:
        return self._stream.describe(step, start, end)


@dataclass(frozen=True)
class KeptLogits:
    """The lesson of a teacher's kept logits."""

    temperature: float

    def __call__(self, student: HybridLM, hidden_BTD: Tensor, batch: CachedBatch) -> TokenLosses:
        return top_k_kl(
            hidden_BTD, student.lm_head.weight, batch.top, batch.labels_BT, temperature=self.temperature
        )


class HeldOutFromCache:
    """The validator: cross-entropy on the held-out rows, and `validation_top_k_kl`, a lower bound of the divergence."""

    def __init__(self, rows: CachedRows, micro_batch: int, lesson: KeptLogits) -> None:
        self._rows, self._micro_batch, self._lesson = rows, micro_batch, lesson
        self._cross_entropy = HeldOut(rows.data, micro_batch)

    def __call__(self, student: HybridLM, tokens: int) -> dict[str, float]:
        places = self._rows.data.validation_places(tokens)
        if not places:
            return {}
        size = self._micro_batch
        batches = (self._rows.rows(places[start : start + size]) for start in range(0, len(places), size))
        kl = held_out_divergence(student, self._lesson, batches)
        return {**self._cross_entropy(student, tokens), "validation_top_k_kl": kl}
