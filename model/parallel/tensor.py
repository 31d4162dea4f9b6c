"""Tensor parallelism: heads and inner widths of every mixer over ranks.

A rank holds its part of each projection as an ordinary tensor: what a mixer computes is what a mixer with fewer heads or
neurons would. Two operations frame it, one the other's transpose: `copy_in` hands the same input to all ranks and adds their
gradients, `add_out` adds what their parts make of it. Embeddings, norms and head are whole on every rank.

A parameter may hold several things side by side, each of which is cut: the rows of `in_proj` make z, x, B, C and dt.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.config import ATTENTION, MAMBA, HybridConfig
from model.errors import UsageError
from model.layers.mamba2 import Mamba2
from model.parallel.group import RankGroup

if TYPE_CHECKING:
    from model.hybrid import Block, HybridLM


class TensorRanks(RankGroup):
    """The ranks that share the mixers."""

    def copy_in(self, x: Tensor) -> Tensor:
        """x, whose gradient is the sum of all ranks'."""
        return cast(Tensor, _CopyIn.apply(x, self.group))

    def add_out(self, x: Tensor) -> Tensor:
        """The sum of all ranks' x, whose gradient each of them gets."""
        return cast(Tensor, _AddOut.apply(x, self.group))


class _CopyIn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous()
        dist.all_reduce(grad, group=ctx.group)
        return grad, None


class _AddOut(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(_: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


@dataclass(frozen=True)
class Split:
    """How a parameter is cut: along `dim` it holds parts of these sizes, and of each part every rank holds an equal run."""

    dim: int
    sizes: tuple[int, ...]

    def part(self, whole: Tensor, rank: int, size: int) -> Tensor:
        """What rank `rank` of `size` holds of the whole parameter."""
        parts = whole.split(self.sizes, self.dim)
        return torch.cat([part.chunk(size, self.dim)[rank] for part in parts], self.dim)

    def whole(self, of_ranks: list[Tensor]) -> Tensor:
        """The parameter of which each rank holds one of these."""
        sizes = [size // len(of_ranks) for size in self.sizes]
        runs = zip(*(held.split(sizes, self.dim) for held in of_ranks), strict=True)
        return torch.cat([run for part in runs for run in part], self.dim)


def splits(config: HybridConfig) -> dict[str, Split]:
    """Of each parameter that tensor ranks share, by its name, how it is cut."""
    found: dict[str, Split] = {}
    for number, letter in enumerate(config.pattern):
        of_mixer = (
            _mamba(config) if letter == MAMBA else _attention(config) if letter == ATTENTION else _mlp(config)
        )
        found |= {f"backbone.layers.{number}.mixer.{name}": split for name, split in of_mixer}
    return found


def _mamba(config: HybridConfig) -> Iterator[tuple[str, Split]]:
    width, heads = config.mamba_width, config.mamba_num_heads
    states = config.n_groups * config.ssm_state_size
    yield "in_proj.weight", Split(0, (width, width, states, states, heads))
    yield "conv1d.weight", Split(0, (width, states, states))
    if config.use_conv_bias:
        yield "conv1d.bias", Split(0, (width, states, states))
    for name in ("A_log", "D", "dt_bias"):
        yield name, Split(0, (heads,))
    yield "norm.weight", Split(0, (width,))
    yield "out_proj.weight", Split(1, (width,))


def _attention(config: HybridConfig) -> Iterator[tuple[str, Split]]:
    queries, keys = (
        heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads)
    )
    yield "q_proj.weight", Split(0, (queries,))
    yield "k_proj.weight", Split(0, (keys,))
    yield "v_proj.weight", Split(0, (keys,))
    yield "o_proj.weight", Split(1, (queries,))


def _mlp(config: HybridConfig) -> Iterator[tuple[str, Split]]:
    yield "up_proj.weight", Split(0, (config.intermediate_size,))
    yield "down_proj.weight", Split(1, (config.intermediate_size,))


def refuse_uneven(config: HybridConfig, size: int) -> None:
    """UsageError if `size` ranks cannot hold equal parts of every mixer."""
    counts = {"intermediate_size": config.intermediate_size} if "-" in config.pattern else {}
    if MAMBA in config.pattern:
        counts |= {"mamba_num_heads": config.mamba_num_heads, "n_groups": config.n_groups}
    if ATTENTION in config.pattern:
        counts |= {
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": config.num_key_value_heads,
        }
    uneven = [f"{name} is {count}" for name, count in counts.items() if count % size]
    if config.use_bias or config.mlp_bias:
        uneven.append("projections with biases are not shared between ranks")
    if uneven:
        raise UsageError(
            f"the mixers cannot be cut in {size} equal parts: {', '.join(uneven)}",
            where="tensor_parallel",
            remedy="pass another --tensor-parallel",
        )


@torch.no_grad()
def split_mixers(lm: "HybridLM", ranks: TensorRanks) -> None:
    """Leave of every mixer this rank's part. UsageError if there are no equal parts."""
    refuse_uneven(lm.config, ranks.size)
    modules = dict(lm.named_modules())
    for name, split in splits(lm.config).items():
        owner, _, leaf = name.rpartition(".")
        held = split.part(getattr(modules[owner], leaf), ranks.rank, ranks.size)
        setattr(modules[owner], leaf, nn.Parameter(held.clone()))
    for block in cast(Iterable["Block"], lm.backbone.layers):
        block.tensor_ranks = ranks
        if isinstance(block.mixer, Mamba2):
            block.mixer.keep_share(ranks.size)
