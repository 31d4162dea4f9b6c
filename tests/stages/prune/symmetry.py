"""A model with its units in another order, which computes the same: what pruning must not depend on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import HybridConfig
from model.hybrid import HybridLM


@dataclass(frozen=True)
class Permutation:
    """For each axis, which old unit stands at each place. Heads move within their group and groups as a whole, with their
    B and C, or their keys and values; a block's channels move alike in all its heads."""

    hidden: Tensor
    neurons: Tensor
    mamba_groups: Tensor
    mamba_heads: Tensor
    mamba_channels: Tensor
    kv_heads: Tensor
    attention_heads: Tensor

    @classmethod
    def random(cls, config: HybridConfig, seed: int) -> "Permutation":
        generator = torch.Generator().manual_seed(seed)

        def shuffled(size: int) -> Tensor:
            return torch.randperm(size, generator=generator)

        def within(groups: Tensor, heads: int) -> Tensor:
            size = heads // len(groups)
            return torch.cat([group * size + shuffled(size) for group in groups])

        groups, kv_heads = shuffled(config.n_groups), shuffled(config.num_key_value_heads)
        return cls(
            shuffled(config.hidden_size),
            shuffled(config.intermediate_size),
            groups,
            within(groups, config.mamba_num_heads),
            shuffled(config.mamba_head_dim),
            kv_heads,
            within(kv_heads, config.num_attention_heads),
        )


@torch.no_grad()
def permuted(lm: HybridLM, order: Permutation) -> HybridLM:
    config = lm.config
    E, H, P = config.mamba_width, config.mamba_num_heads, config.mamba_head_dim
    N, states = config.ssm_state_size, config.n_groups * config.ssm_state_size
    inner = torch.arange(E).view(H, P)[order.mamba_heads][:, order.mamba_channels].flatten()
    groups = torch.arange(states).view(-1, N)[order.mamba_groups].flatten()
    conv = torch.cat([inner, E + groups, E + states + groups])
    in_proj = torch.cat([inner, E + conv, E + config.conv_width + order.mamba_heads])

    def heads(which: Tensor) -> Tensor:
        return (which[:, None] * config.head_dim + torch.arange(config.head_dim)).flatten()

    queries, keys = heads(order.attention_heads), heads(order.kv_heads)
    state: dict[str, Tensor] = {}
    for name, value in lm.state_dict().items():
        part = name.rpartition("mixer.")[2]
        if part.startswith("in_proj"):
            value = value[in_proj]
        elif part.startswith("conv1d"):
            value = value[conv]
        elif part in ("A_log", "D", "dt_bias"):
            value = value[order.mamba_heads]
        elif part == "norm.weight" and "mixer" in name:
            value = value[inner]
        elif part.startswith("up_proj"):
            value = value[order.neurons]
        elif part == "q_proj.weight":
            value = value[queries]
        elif part in ("k_proj.weight", "v_proj.weight"):
            value = value[keys]
        if part in ("in_proj.weight", "up_proj.weight", "q_proj.weight", "k_proj.weight", "v_proj.weight"):
            value = value[:, order.hidden]
        elif part == "out_proj.weight":
            value = value[order.hidden][:, inner]
        elif part == "o_proj.weight":
            value = value[order.hidden][:, queries]
        elif part == "down_proj.weight":
            value = value[order.hidden][:, order.neurons]
        elif part in ("out_proj.bias", "down_proj.bias") or ("norm" in name and "mixer" not in name):
            value = value[order.hidden]
        elif name in ("backbone.embeddings.weight", "lm_head.weight"):
            value = value[:, order.hidden]
        state[name] = value.clone()
    other = HybridLM(config, initialize=False).to(lm.lm_head.weight.dtype)
    other.load_state_dict(state)
    return other.eval()
