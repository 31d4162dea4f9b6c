"""Units that do nothing, planted in a model: what of their tensors must be zero for that."""

from collections.abc import Sequence

import torch

from model.hybrid import HybridLM
from model.layers.attention import Attention
from model.layers.mamba2 import Mamba2
from model.layers.mlp import MLP


@torch.no_grad()
def kill_hidden(lm: HybridLM, channels: Sequence[int]) -> None:
    """Nothing ever writes to these channels of the residual stream."""
    lm.backbone.embeddings.weight[:, channels] = 0
    for block in lm.backbone.layers:
        out = _output(block.mixer)
        out.weight[channels] = 0
        if out.bias is not None:
            out.bias[channels] = 0


@torch.no_grad()
def kill_layer(lm: HybridLM, block: int) -> None:
    """The block adds nothing to the residual stream."""
    out = _output(lm.backbone.layers[block].mixer)
    out.weight.zero_()
    if out.bias is not None:
        out.bias.zero_()


@torch.no_grad()
def kill_neurons(mixer: MLP, neurons: Sequence[int]) -> None:
    mixer.up_proj.weight[neurons] = 0
    if mixer.up_proj.bias is not None:
        mixer.up_proj.bias[neurons] = 0


def kill_mamba_heads(mixer: Mamba2, heads: Sequence[int]) -> None:
    width = mixer.head_dim
    _kill_x(mixer, [head * width + channel for head in heads for channel in range(width)])


def kill_mamba_channels(mixer: Mamba2, channels: Sequence[int]) -> None:
    """The same channels of every head."""
    width = mixer.head_dim
    _kill_x(mixer, [head * width + channel for head in range(mixer.heads) for channel in channels])


@torch.no_grad()
def kill_attention_heads(mixer: Attention, heads: Sequence[int]) -> None:
    """Nothing reads these heads. They look everywhere alike, and so compute less than the others, which look hard."""
    mixer.q_proj.weight *= 20
    for head in heads:
        rows = slice(head * mixer.head_dim, (head + 1) * mixer.head_dim)
        mixer.q_proj.weight[rows] = 0
        mixer.o_proj.weight[:, rows] = 0


@torch.no_grad()
def _kill_x(mixer: Mamba2, rows: list[int]) -> None:
    """x is zero there, before and after the convolution, and so is what the head computes."""
    width = mixer.heads * mixer.head_dim
    in_rows = [width + row for row in rows]
    mixer.in_proj.weight[in_rows] = 0
    if mixer.in_proj.bias is not None:
        mixer.in_proj.bias[in_rows] = 0
    if mixer.conv1d.bias is not None:
        mixer.conv1d.bias[rows] = 0


def _output(mixer: object) -> torch.nn.Linear:
    if isinstance(mixer, Mamba2):
        return mixer.out_proj
    if isinstance(mixer, Attention):
        return mixer.o_proj
    assert isinstance(mixer, MLP)
    return mixer.down_proj
