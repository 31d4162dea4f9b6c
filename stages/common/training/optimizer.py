"""AdamW as the report uses it: weight decay on matrices and embeddings only."""

import torch
from torch import nn

from stages.common.training.settings import OptimizerSettings


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """Fused AdamW over all parameters that are trained, in the order of their names; its learning rate is set before each
    step.

    Norms, biases, `A_log`, `D` and `dt_bias`, which are vectors, are not decayed; everything with two or more
    dimensions is.
    """
    named = sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)
    groups = [
        {"params": [p for _, p in named if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for _, p in named if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=0.0,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )
