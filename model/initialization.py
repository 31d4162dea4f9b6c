"""Fresh parameters, by the rules of the NemotronH family.

Matrices and embeddings N(0, initializer_range); biases 0; norms 1; A_log = log(1..H); D = 1; dt_bias such that
softplus(dt_bias) is log-uniform in [dt_init_min, dt_init_max], floored at dt_init_floor; Mamba out_proj, where
`rescale_prenorm_residual`, uniform in +-1/sqrt(fan in) and divided by sqrt(number of blocks); convolutions uniform in
+-1/sqrt(conv width), torch's own rule, which the family leaves as it is.
"""

import math

import torch
from torch import Tensor, nn

from model.hybrid import HybridLM
from model.layers.mamba2 import Mamba2


@torch.no_grad()
def initialize(lm: HybridLM) -> None:
    """Draw every parameter from torch's global generator, in the order of `lm.modules()`. A meta model stays as it is."""
    if lm.device.type == "meta":
        return
    config = lm.config
    for module in lm.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=config.initializer_range)
    for module in lm.modules():
        if isinstance(module, Mamba2):
            _initialize_mamba(module, lm)


def _initialize_mamba(mixer: Mamba2, lm: HybridLM) -> None:
    config = lm.config
    mixer.A_log.copy_(torch.arange(1, config.mamba_num_heads + 1).log())
    mixer.D.fill_(1.0)
    low, high = math.log(config.dt_init_min), math.log(config.dt_init_max)
    dt_H = torch.exp(torch.rand(config.mamba_num_heads) * (high - low) + low).clamp_(min=config.dt_init_floor)
    mixer.dt_bias.copy_(inverse_softplus(dt_H))
    if config.rescale_prenorm_residual:
        nn.init.kaiming_uniform_(mixer.out_proj.weight, a=math.sqrt(5))
        mixer.out_proj.weight.div_(math.sqrt(config.num_hidden_layers))


def inverse_softplus(y: Tensor) -> Tensor:
    """x with log(1 + exp(x)) = y, for y > 0, accurate for small y."""
    return y + torch.log(-torch.expm1(-y))
