"""The lesson of a teacher's logits that were kept: no teacher is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.loss import TokenLosses
from stages.common.distillation.loss import TopK, top_k_kl
from stages.common.training.batches import Batch, Place, TrainingData
from stages.distill.cache import LogitCache


@dataclass(frozen=True)
class CachedBatch:
    """Rows, and where the cache has what the teacher said of them: it is read a micro-batch at a time."""

    batch: Batch
    places: Sequence[Place]
    cache: LogitCache

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
        return CachedBatch(self.batch.rows(start, end), self.places[start:end], self.cache)

    def to(self, device: torch.device) -> "CachedBatch":
        return CachedBatch(self.batch.to(device), self.places, self.cache)

    def top(self) -> TopK:
        """Read from the cache: at the tokens with a label, in their order."""
        device = self.input_ids_BT.device
        entries = [self.cache.entry(place) for place in self.places]
        logprobs_nk1 = torch.cat([entry.logprobs for entry in entries]).to(device).float()
        return TopK(
            torch.cat([entry.ids for entry in entries]).to(device).long(),
            logprobs_nk1 - logprobs_nk1.logsumexp(1, keepdim=True),
        )


@dataclass(frozen=True)
class CachedRows:
    """Rows of the data, and the cache that has all of them."""

    data: TrainingData
    cache: LogitCache

    def rows(self, places: Sequence[Place]) -> CachedBatch:
        return CachedBatch(self.data.rows(places), places, self.cache)


@dataclass(frozen=True)
class KeptLogits:
    """The lesson. Its divergence is a lower bound of that from the whole logits."""

    temperature: float
    figure: ClassVar[str] = "validation_top_k_kl"

    def __call__(self, student: HybridLM, hidden_BTD: Tensor, batch: CachedBatch) -> TokenLosses:
        return top_k_kl(
            hidden_BTD, student.lm_head.weight, batch.top(), batch.labels_BT, temperature=self.temperature
        )
