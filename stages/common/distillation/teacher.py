"""The model that is learnt from: what it says of a batch."""

import torch
from torch import Tensor

from model.errors import NotFiniteError
from model.hybrid import HybridLM
from model.inference.diagnosis import first_not_finite
from stages.common.training.objectives import StepBatch


@torch.no_grad()
def teacher_hidden(teacher: HybridLM, batch: StepBatch) -> Tensor:
    """[B, T, E] of the teacher after its final norm. NotFiniteError, with the layer, where that is a NaN or an infinity."""

    def forward() -> Tensor:
        return teacher.hidden_states(batch.input_ids_BT, batch.document_ids_BT)

    hidden_BTE = forward()
    if not bool(hidden_BTE.isfinite().all()):
        raise NotFiniteError(
            f"the teacher's logits are not finite; the first NaN or infinity comes out of "
            f"{first_not_finite(teacher.named_modules(), forward)}",
            where="teacher",
            remedy="pass --teacher-dtype float32; if that does not help, its weights are unusable",
        )
    return hidden_BTE
