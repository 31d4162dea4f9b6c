"""The feed-forward mixer: up, squared ReLU, down; no gate."""

import torch
from torch import Tensor, nn

from model.config import HybridConfig
from model.kernels import cpu_decoding
from model.kernels.squared_relu import squared_relu, squared_relu_mlp
from model.layers.linear import Linear
from model.layers.norm import RMSNorm


class MLP(nn.Module):
    """[B, T, D] -> [B, T, D]. Report, section 2.1."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.up_proj.bias is None and self.up_proj.product is None:
            return squared_relu_mlp(x_BTD, self.up_proj.weight, self.down_proj.weight)
        return self.down_proj(squared_relu(self.up_proj(x_BTD)))

    def block_step(self, x_B1D: Tensor, norm: RMSNorm) -> Tensor | None:
        """The block around this mixer, x + mixer(norm(x)), in one compiled call; None where there is none for the case."""
        up_proj, down_proj = self.up_proj, self.down_proj
        if not cpu_decoding.serves_rows(x_B1D, up_proj.weight, up_proj.weight.numel()):
            return None
        return cpu_decoding.mlp_block(
            x_B1D, norm.weight, norm.eps, up_proj.weight, up_proj.bias, down_proj.weight, down_proj.bias
        )
