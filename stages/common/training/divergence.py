"""Naming the culprit when a loss or a gradient is not finite."""

import torch
from torch import nn

from model.errors import DivergedError
from model.hybrid import HybridLM
from model.inference.diagnosis import first_not_finite
from model.parallel.shards import local
from stages.common.training.objectives import StepBatch

REMEDY = "lower --learning-rate or --clip, or look at these rows with `nano2 data show`"


def diverged_loss(lm: HybridLM, batch: StepBatch, where: str) -> DivergedError:
    """The error for a batch whose loss is NaN or infinite: the forward pass is run again and watched."""
    return DivergedError(
        f"the loss is not finite; {_first_bad_module(lm, batch)}", where=where, remedy=REMEDY
    )


def diverged_gradient(model: nn.Module, where: str) -> DivergedError:
    """The error for a gradient norm that is NaN or infinite."""
    bad = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not bool(torch.isfinite(local(parameter.grad)).all())
    ]
    # Gradients flow from the last block to the first, so the last bad one is nearest to the cause.
    named = f"the last parameter with a bad gradient is {bad[-1]}" if bad else "their squares overflow"
    return DivergedError(f"the gradient is not finite; {named}", where=where, remedy=REMEDY)


@torch.no_grad()
def _first_bad_module(lm: HybridLM, batch: StepBatch) -> str:
    for name, parameter in lm.named_parameters():
        if not bool(torch.isfinite(local(parameter)).all()):
            return f"the parameter {name} is not finite"
    found = first_not_finite(
        lm.named_modules(), lambda: lm.hidden_states(batch.input_ids_BT, batch.document_ids_BT)
    )
    return (
        f"the first layer with a bad output is {found}"
        if found
        else "all layers are finite, the logits are not"
    )
