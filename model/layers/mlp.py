"""The feed-forward mixer: up, squared ReLU, down; no gate."""

from torch import Tensor, nn

from model.config import HybridConfig
from model.kernels.squared_relu import squared_relu
from model.layers.linear import Linear


class MLP(nn.Module):
    """[B, T, D] -> [B, T, D]. Report, section 2.1."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(squared_relu(self.up_proj(x_BTD)))
