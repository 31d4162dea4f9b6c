"""Cutting a checkpoint down to what is kept, one tensor at a time.

Every axis of every tensor has a name (`_AXES`), and what stays of an axis is one list of indices a block, so that all
tensors that share an axis are sliced alike. B and C of a Mamba block, keys, values and the vocabulary stay whole.

A norm over fewer channels divides by another root mean square. What stays keeps its scale: with e the measured energy
of the norm's channels (`importance/widths.py`), the norm's weight is multiplied by

    sqrt(mean of e over the channels that stay / mean of e over all)

of a gated norm, by the means over the group where a head goes and over the group that it comes from. Where what goes
was always zero, the norm's output stays the same but for its epsilon. Neither the report nor ModelOpt does this.

Shapes: D hidden size, E Mamba width (heads H times channels P), G groups, N state size.
"""

from __future__ import annotations

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
        if parameter.endswith(("norm.weight", "norm_f.weight")):
            tensor = _rescaled(tensor, _scale(config, kept, importance.widths, block, parameter))
        yield new_name, tensor


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
) -> Tensor | None:
    """What a norm's weight is multiplied by, None where the norm loses nothing."""
    if block is not None and parameter == "mixer.norm.weight":
        energy_HP, heads = widths.gated_energy[block], torch.tensor(kept.mamba_heads[block])
        stays_hp = energy_HP[heads][:, list(kept.mamba_channels[block])]
        if stays_hp.numel() == energy_HP.numel():
            return None
        before_h = _group_means(energy_HP, config.n_groups)[heads]
        after_h = _group_means(stays_hp, config.n_groups)
        return _ratio(after_h, before_h)[:, None].expand(stays_hp.shape).flatten()
    energy_D = widths.residual_energy[config.num_hidden_layers if block is None else block]
    if len(kept.hidden) == len(energy_D):
        return None
    return _ratio(energy_D[list(kept.hidden)].mean(), energy_D.mean())


def _group_means(energy_HP: Tensor, groups: int) -> Tensor:
    """[H] the mean over the group that each head is in."""
    return energy_HP.reshape(groups, -1).mean(1).repeat_interleave(len(energy_HP) // groups)


def _ratio(after: Tensor, before: Tensor) -> Tensor:
    """Root of after / before; 1 where nothing was measured to flow."""
    return torch.where(before > 0, after / before, torch.ones_like(before)).sqrt()


def _rescaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    return weight if scale is None else (weight.double() * scale).to(weight.dtype)
