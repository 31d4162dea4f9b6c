"""Small models for tests: every structural feature of the family at a few thousand parameters a block, every parameter
drawn at random, so that no test passes because a norm is 1 or a bias 0."""

import math

import torch
from torch import Tensor

from model.config import HybridConfig
from model.hybrid import HybridLM
from model.initialization import inverse_softplus
from model.presets import PRESETS


def miniature(pattern: str, **overrides: object) -> HybridConfig:
    """A config of hidden size 40 whose Mamba width (4 x 16) is unlike twice that."""
    shape: dict[str, object] = {
        "vocab_size": 96,
        "hidden_size": 40,
        "pattern": pattern,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "intermediate_size": 56,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 2,
        "chunk_size": 16,
        "max_position_embeddings": 256,
        "eos_token_id": None,
    }
    return HybridConfig.model_validate({**shape, **overrides})


MINIATURES: dict[str, HybridConfig] = {
    "pure-mamba": miniature("MMM"),
    "pure-attention": miniature("*-*-", num_key_value_heads=4),
    "nano2-12b-pattern": miniature(
        PRESETS["nano2-12b"]["pattern"], hidden_size=16, mamba_head_dim=8, intermediate_size=24
    ),
    "nano2-9b-pattern": miniature(
        PRESETS["nano2-9b"]["pattern"], hidden_size=16, mamba_head_dim=8, intermediate_size=24
    ),
    "width-unlike-expand": miniature(
        "M-M*-", hidden_size=24, mamba_num_heads=6, mamba_head_dim=20, n_groups=3, num_attention_heads=5,
        num_key_value_heads=1,
    ),
    "one-group-conv-2": miniature("M-*M-", n_groups=1, conv_kernel=2),
    "eight-groups-conv-3": miniature("MM*-", n_groups=8, mamba_num_heads=8, mamba_head_dim=8, conv_kernel=3),
    "biases": miniature("M*-M", use_bias=True, mlp_bias=True, use_conv_bias=False, layer_norm_epsilon=1e-3),
}  # fmt: skip


@torch.no_grad()
def randomized(
    config: HybridConfig,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    dt: tuple[float, float] = (1e-3, 1.0),
) -> HybridLM:
    """A model in evaluation mode with every parameter random and logits of order one.

    Fresh time steps softplus(dt_bias) are log-uniform in `dt`, decay rates A uniform in [-16, -0.5].
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor, std: float, mean: float = 0.0) -> Tensor:
        return torch.randn(like.shape, generator=generator) * std + mean

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    lm = HybridLM(config, initialize=False)
    for name, parameter in lm.named_parameters():
        kind = name.rpartition("mixer.")[2]
        if kind == "A_log":
            value = uniform(parameter, 0.5, 16.0).log()
        elif kind == "dt_bias":
            value = inverse_softplus(uniform(parameter, math.log(dt[0]), math.log(dt[1])).exp())
        elif "norm" in name:
            value = normal(parameter, 0.2, mean=1.0)
        elif kind == "D" or "embeddings" in name:
            value = normal(parameter, 1.0)
        elif name.endswith("bias"):
            value = normal(parameter, 0.2)
        else:  # projections and convolutions
            value = normal(parameter, parameter[0].numel() ** -0.5)
        parameter.copy_(value)
    return lm.to(dtype).eval()


def random_ids(config: HybridConfig, *shape: int, seed: int = 1) -> Tensor:
    """Uniform token ids."""
    return torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(seed))
