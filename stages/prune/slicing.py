"""Cutting a checkpoint down to what is kept, one tensor at a time.

Every axis of every tensor has a name (`_AXES`), and what stays of an axis is one list of indices a block, so that all
tensors that share an axis are sliced alike. B and C of a Mamba block, keys, values and the vocabulary stay whole.

A norm over fewer channels divides by another root mean square. What stays keeps its scale: with e the measured energy
of the norm's channels (`importance/widths.py`), the norm's weight is multiplied by

    sqrt(r),    r = mean of e over the channels that stay / mean of e over all

of a gated norm, by the means over the group where a head goes and over the group that it comes from. Where what goes
was always zero, r is D / D' or E / E', and the network shall compute what it did before, its epsilons included. So the
epsilon, one for all norms, becomes eps E / E', and whatever writes to the residual stream, which norms alone read, is
multiplied by k with k^2 = (E / E') (D' / D): then

    sqrt(r) k x / sqrt(mean over D' of (k x)^2 + eps E / E')  =  x / sqrt(mean over D of x^2 + eps)

and the same for a gated norm with k = 1. Neither the report nor ModelOpt corrects the scale.

Shapes: D hidden size, E Mamba width (heads H times channels P), D' and E' after pruning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from model.artifact.weights import CheckpointFiles
from model.config import HybridConfig
from model.loading import match_tensors
from stages.prune.importance.store import Importance
from stages.prune.importance.widths import Widths
from stages.prune.kept import Kept, Shape

_AXES: dict[str, tuple[str, ...]] = {
    "backbone.embeddings.weight": ("", "hidden"),
    "backbone.norm_f.weight": ("hidden",),
    "lm_head.weight": ("", "hidden"),
    "norm.weight": ("hidden",),
    "mixer.in_proj.weight": ("in_proj", "hidden"),
    "mixer.in_proj.bias": ("in_proj",),
    "mixer.conv1d.weight": ("conv",),
    "mixer.conv1d.bias": ("conv",),
    "mixer.A_log": ("heads",),
    "mixer.D": ("heads",),
    "mixer.dt_bias": ("heads",),
    "mixer.norm.weight": ("inner",),
    "mixer.out_proj.weight": ("hidden", "inner"),
    "mixer.out_proj.bias": ("hidden",),
    "mixer.q_proj.weight": ("queries", "hidden"),
    "mixer.k_proj.weight": ("", "hidden"),
    "mixer.v_proj.weight": ("", "hidden"),
    "mixer.o_proj.weight": ("hidden", "queries"),
    "mixer.up_proj.weight": ("neurons", "hidden"),
    "mixer.up_proj.bias": ("neurons",),
    "mixer.down_proj.weight": ("hidden", "neurons"),
    "mixer.down_proj.bias": ("hidden",),
}
"""Of each parameter, those of a block without their prefix, the names of its axes; "" is never cut."""

_PRE_NORMS = ("norm.weight", "backbone.norm_f.weight")

_WRITERS = (
    "backbone.embeddings.weight",
    "mixer.out_proj.weight",
    "mixer.out_proj.bias",
    "mixer.o_proj.weight",
    "mixer.down_proj.weight",
    "mixer.down_proj.bias",
)
"""What adds to the residual stream."""

_OF_BLOCK = "backbone.layers."


def sliced_config(config: HybridConfig, kept: Kept) -> HybridConfig:
    """The config of the model that `sliced` makes."""

    def count(of_blocks: Mapping[int, tuple[int, ...]], whole: int) -> int:
        return len(next(iter(of_blocks.values()))) if of_blocks else whole

    shape = Shape(
        layers=len(kept.layers),
        hidden=len(kept.hidden),
        ffn=count(kept.neurons, config.intermediate_size),
        mamba_heads=count(kept.mamba_heads, config.mamba_num_heads),
        mamba_head_dim=count(kept.mamba_channels, config.mamba_head_dim),
        attention_heads=count(kept.attention_heads, config.num_attention_heads),
    )
    return shape.applied(config, "".join(config.pattern[block] for block in kept.layers))


def sliced(
    files: CheckpointFiles, config: HybridConfig, kept: Kept, importance: Importance
) -> Iterator[tuple[str, Tensor]]:
    """Every parameter of the pruned model by name, in order of name, each in the dtype in which it is stored.

    Holds one tensor at a time. ArtifactError if the files are no model of this config, or hold NaN.
    """
    stored_as = match_tensors(config, files)
    number_of = {block: number for number, block in enumerate(kept.layers)}
    places: dict[str, tuple[str, int | None, str]] = {}
    for name in stored_as:
        block, parameter = _split(name)
        if block is None:
            places[name] = name, None, parameter
        elif block in number_of:
            places[f"{_OF_BLOCK}{number_of[block]}.{parameter}"] = name, block, parameter
    for new_name in sorted(places):
        name, block, parameter = places[new_name]
        tensor = files.tensor(stored_as[name], require_finite=True)
        indices = _indices(config, kept, block)
        for dim, axis in enumerate(_AXES[parameter]):
            if axis and len(indices[axis]) < tensor.shape[dim]:
                tensor = tensor.index_select(dim, indices[axis])
        scale = _scale(config, kept, importance.widths, block, parameter)
        yield new_name, tensor if scale is None else (tensor.double() * scale).to(tensor.dtype)


def _split(name: str) -> tuple[int | None, str]:
    """The block of a parameter, None outside the blocks, and its name in `_AXES`."""
    if not name.startswith(_OF_BLOCK):
        return None, name
    number, _, parameter = name.removeprefix(_OF_BLOCK).partition(".")
    return int(number), parameter


def _indices(config: HybridConfig, kept: Kept, block: int | None) -> dict[str, Tensor]:
    """Of each named axis what stays of it, ascending."""
    indices = {"hidden": torch.tensor(kept.hidden)}
    if block is None:
        return indices
    if block in kept.neurons:
        indices["neurons"] = torch.tensor(kept.neurons[block])
    elif block in kept.attention_heads:
        indices["queries"] = _flat(kept.attention_heads[block], range(config.head_dim), config.head_dim)
    elif block in kept.mamba_heads:
        heads, width = torch.tensor(kept.mamba_heads[block]), config.mamba_width
        inner = _flat(kept.mamba_heads[block], kept.mamba_channels[block], config.mamba_head_dim)
        conv = torch.cat([inner, torch.arange(width, config.conv_width)])
        in_proj = torch.cat([inner, width + conv, width + config.conv_width + heads])
        indices |= {"heads": heads, "inner": inner, "conv": conv, "in_proj": in_proj}
    return indices


def _flat(heads: Sequence[int], channels: Sequence[int], head_dim: int) -> Tensor:
    """Indices of the channels of the heads on an axis of heads times head_dim."""
    return (torch.tensor(heads)[:, None] * head_dim + torch.tensor(channels)).flatten()


def _scale(
    config: HybridConfig, kept: Kept, widths: Widths, block: int | None, parameter: str
) -> Tensor | float | None:
    """What a parameter is multiplied by; None where it stays as it is."""
    if parameter == "mixer.norm.weight":
        assert block is not None
        return _gated_scale(config, kept, widths.gated_energy[block], block)
    if parameter in _PRE_NORMS:
        energy_D = widths.residual_energy[config.num_hidden_layers if block is None else block]
        return None if len(kept.hidden) == len(energy_D) else _ratio(energy_D[list(kept.hidden)], energy_D)
    if parameter in _WRITERS:
        epsilon = sliced_config(config, kept).layer_norm_epsilon / config.layer_norm_epsilon
        scale = math.sqrt(epsilon * len(kept.hidden) / config.hidden_size)
        return None if scale == 1 else scale
    return None


def _gated_scale(config: HybridConfig, kept: Kept, energy_HP: Tensor, block: int) -> Tensor | None:
    """[E'] for the weight of a Mamba block's norm."""
    heads = torch.tensor(kept.mamba_heads[block])
    stays_hp = energy_HP[heads][:, list(kept.mamba_channels[block])]
    if stays_hp.numel() == energy_HP.numel():
        return None
    before_Ge, after_Ge = energy_HP.view(config.n_groups, -1), stays_hp.view(config.n_groups, -1)
    came_from = heads // (config.mamba_num_heads // config.n_groups)
    goes_to = torch.arange(len(heads)) // (len(heads) // config.n_groups)
    scale_h = _ratio(after_Ge[goes_to], before_Ge[came_from])
    return scale_h.repeat_interleave(stays_hp.shape[1])


def _ratio(after: Tensor, before: Tensor) -> Tensor:
    """Root of the ratio of the means over the last axis, in float64; 1 where nothing was measured to flow."""
    after, before = after.double().mean(-1), before.double().mean(-1)
    return torch.where(before > 0, after / before, 1.0).sqrt()
