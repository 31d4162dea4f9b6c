"""What a step of distillation minimizes, and the same on held-out rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.loss import TokenLosses, token_cross_entropy
from stages.common.distillation.loss import forward_kl
from stages.common.distillation.settings import DistillationSettings
from stages.common.distillation.teacher import teacher_hidden
from stages.common.training.objectives import Loss, StepBatch


class LabelledBatch(StepBatch, Protocol):
    """Rows with labels [B, T], IGNORED where nothing is learnt."""

    @property
    def labels_BT(self) -> Tensor: ...


L = TypeVar("L", bound=LabelledBatch)

L_contra = TypeVar("L_contra", bound=LabelledBatch, contravariant=True)


class Lesson(Protocol[L_contra]):
    """The divergence from what is taught, of a student, its hidden states [B, T, D] and their batch.

    figure: what its mean on held-out rows is called.
    """

    figure: ClassVar[str]

    def __call__(self, student: HybridLM, hidden_BTD: Tensor, batch: L_contra, /) -> TokenLosses: ...


@dataclass(frozen=True)
class WholeLogits:
    """The lesson of a teacher in memory: it is in evaluation mode, on the student's device, and of its vocabulary."""

    teacher: HybridLM
    temperature: float
    figure: ClassVar[str] = "validation_kl"

    def __call__(self, student: HybridLM, hidden_BTD: Tensor, batch: LabelledBatch) -> TokenLosses:
        return forward_kl(
            hidden_BTD,
            student.lm_head.weight,
            teacher_hidden(self.teacher, batch),
            self.teacher.lm_head.weight,
            batch.labels_BT,
            temperature=self.temperature,
        )


@dataclass(frozen=True)
class Distillation(Generic[L]):
    """(1 - ce_weight) times the divergence plus ce_weight times next-token cross-entropy, summed over the labels, nats."""

    lesson: Lesson[L]
    settings: DistillationSettings

    def __call__(self, student: HybridLM, batch: L) -> Loss:
        hidden_BTD = student.hidden_states(batch.input_ids_BT, batch.document_ids_BT)
        total = self.lesson(student, hidden_BTD, batch).total
        sums = {"loss/divergence": float(total.detach())}
        if weight := self.settings.ce_weight:
            ce = token_cross_entropy(hidden_BTD, student.lm_head.weight, batch.labels_BT).total
            sums["loss/cross_entropy"] = float(ce.detach())
            total = (1 - weight) * total + weight * ce
        return Loss(total, sums)


@torch.no_grad()
def held_out_divergence(student: HybridLM, lesson: Lesson[L], batches: Iterable[L]) -> float:
    """Mean divergence a token, nats; there is at least one token."""
    total, count = 0.0, 0
    for cpu_batch in batches:
        batch = cpu_batch.to(student.device)
        hidden_BTD = student.hidden_states(batch.input_ids_BT, batch.document_ids_BT)
        total += float(lesson(student, hidden_BTD, batch).total)
        count += batch.count
    return total / count
