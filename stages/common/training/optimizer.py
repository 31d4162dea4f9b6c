"""AdamW as the report uses it: weight decay on matrices and embeddings only."""

from collections import defaultdict

import torch
from torch import nn

from model.parallel.shards import is_sharded
from stages.common.training.settings import OptimizerSettings


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """Fused AdamW over all parameters that are trained, in the order of their names; its learning rate is set before each
    step.

    Norms, biases, `A_log`, `D` and `dt_bias`, which are vectors, are not decayed; everything with two or more
    dimensions is. Sharded parameters and whole ones lie in groups of their own, since the fused step takes no mixture.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            groups[parameter.dim() >= 2, is_sharded(parameter)].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": settings.weight_decay if decayed else 0.0}
            for (decayed, _), parameters in groups.items()
        ],
        lr=0.0,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )
