"""Which units stay: the shape that is asked for, and the choice of blocks, channels, neurons and heads that gives it.

Shapes: L blocks, D hidden size, F MLP width, H Mamba heads, P channels of a Mamba head, G groups of Mamba heads,
q attention heads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.config import ATTENTION, MAMBA, MLP, HybridConfig
from model.errors import UsageError
from stages.prune.importance.settings import MambaRanking

if TYPE_CHECKING:
    from torch import Tensor

    from stages.prune.importance.store import Importance


@dataclass(frozen=True)
class Shape:
    """The size of a pruned model; whatever else a model has (key/value heads, groups, state size) stays as it is."""

    layers: int
    hidden: int
    ffn: int
    mamba_heads: int
    mamba_head_dim: int
    attention_heads: int

    @classmethod
    def of(cls, config: HybridConfig) -> Shape:
        """The shape that a model has."""
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            config.mamba_num_heads,
            config.mamba_head_dim,
            config.num_attention_heads,
        )

    def applied(self, config: HybridConfig, pattern: str) -> HybridConfig:
        """The config of a model of this shape, pruned from one of `config`; `pattern` holds the blocks that stay.

        The norms' epsilon grows as the Mamba width shrinks, see `slicing`.
        """
        mamba_width = self.mamba_heads * self.mamba_head_dim
        return config.model_copy(
            update={
                "pattern": pattern,
                "layer_norm_epsilon": config.layer_norm_epsilon * (config.mamba_width / mamba_width),
                "hidden_size": self.hidden,
                "intermediate_size": self.ffn,
                "mamba_num_heads": self.mamba_heads,
                "mamba_head_dim": self.mamba_head_dim,
                "num_attention_heads": self.attention_heads,
            }
        )

    def check(self, config: HybridConfig) -> None:
        """UsageError unless a model of `config` can be pruned to this shape."""
        whole = Shape.of(config)
        for name, most in vars(whole).items():
            size = getattr(self, name)
            if not 1 <= size <= most:
                raise UsageError(
                    f"{name} {size} is not within 1 to {most}, the model's own",
                    remedy="pruning makes a model smaller: ask for at most what it has",
                )
        for name, size, groups, of in (
            ("mamba_heads", self.mamba_heads, config.n_groups, "groups of Mamba heads"),
            ("attention_heads", self.attention_heads, config.num_key_value_heads, "key/value heads"),
        ):
            if size % groups:
                raise UsageError(
                    f"{name} {size} is no multiple of the model's {groups} {of}",
                    remedy="as many heads go of each group: ask for a multiple",
                )


@dataclass(frozen=True)
class Kept:
    """Indices of what stays, in ascending order; those of a block by its number in the whole model."""

    layers: tuple[int, ...]
    hidden: tuple[int, ...]
    neurons: Mapping[int, tuple[int, ...]]
    mamba_heads: Mapping[int, tuple[int, ...]]
    mamba_channels: Mapping[int, tuple[int, ...]]
    attention_heads: Mapping[int, tuple[int, ...]]


def choose(
    importance: Importance,
    config: HybridConfig,
    shape: Shape,
    *,
    keep: Mapping[str, int] | None = None,
    mamba_ranking: MambaRanking = "grouped",
) -> Kept:
    """The most important units that make a model of `config` one of `shape`. Ties go to the lower number.

    Blocks go in the order of importance, passing over those of a kind of which no more than `keep` says are left. In a
    Mamba block one ranking of channels, by the L2 norm of their scores over all heads, holds for every head; heads are
    ranked by the norm over the channels that stay, and as many stay of each group. Attention heads are ranked within
    their key/value head. (Nemotron Nano 2, section 4.1; arXiv 2504.11409, section 2.1.)

    mamba_ranking: "global" is a control, what a pruner does that knows nothing of groups: the best heads of all groups
    stay in their order, and the groups' B and C are dealt out to them evenly. A head that lands in another group's run
    reads a B and C that it was not trained with.

    Raises:
        UsageError: the model cannot be pruned to the shape, or the importance does not rank enough blocks.
    """
    shape.check(config)
    layers = _remaining(importance, config.pattern, shape.layers, keep or {})
    of_kind = {kind: [block for block in layers if config.pattern[block] == kind] for kind in config.pattern}
    widths = importance.widths
    channels = {
        block: _best(widths.mamba[block].norm(dim=0), shape.mamba_head_dim)
        for block in of_kind.get(MAMBA, ())
    }
    groups = config.n_groups if mamba_ranking == "grouped" else 1
    return Kept(
        layers=layers,
        hidden=_best(widths.hidden, shape.hidden),
        neurons={block: _best(widths.neurons[block], shape.ffn) for block in of_kind.get(MLP, ())},
        mamba_heads={
            block: _best_of_groups(widths.mamba[block][:, list(kept)].norm(dim=1), shape.mamba_heads, groups)
            for block, kept in channels.items()
        },
        mamba_channels=channels,
        attention_heads={
            block: _best_of_groups(
                widths.attention_heads[block], shape.attention_heads, config.num_key_value_heads
            )
            for block in of_kind.get(ATTENTION, ())
        },
    )


def droppable(pattern: str, gone: Collection[int], keep: Mapping[str, int]) -> list[int]:
    """Blocks that remain and whose kind has more than must be kept."""
    left = Counter(letter for block, letter in enumerate(pattern) if block not in gone)
    return [
        block
        for block, letter in enumerate(pattern)
        if block not in gone and left[letter] > keep.get(letter, 0)
    ]


def check_keep(pattern: str, layers: int, keep: Mapping[str, int]) -> None:
    """UsageError unless `layers` blocks can remain with as many of each kind as `keep` says."""
    for letter, count in keep.items():
        if count > pattern.count(letter):
            raise UsageError(
                f"{count} blocks of kind {letter!r} are to be kept; the model has {pattern.count(letter)}",
                remedy="keep fewer of them",
            )
    if sum(keep.values()) > layers:
        raise UsageError(
            f"{sum(keep.values())} blocks are to be kept by kind, and only {layers} in all",
            remedy="keep fewer, or ask for more layers",
        )


def _remaining(importance: Importance, pattern: str, layers: int, keep: Mapping[str, int]) -> tuple[int, ...]:
    check_keep(pattern, layers, keep)
    gone: set[int] = set()
    for block, _ in importance.layers:
        if len(gone) < len(pattern) - layers and block in droppable(pattern, gone, keep):
            gone.add(block)
    if len(pattern) - len(gone) > layers:
        raise UsageError(
            f"{len(pattern) - layers} blocks have to go, and the importance ranks only {len(gone)} that may",
            remedy=f"measure it down to {layers} layers, or keep fewer of a kind",
        )
    return tuple(block for block in range(len(pattern)) if block not in gone)


def _best(scores: Tensor, count: int, first: int = 0) -> tuple[int, ...]:
    """Indices of the `count` largest scores, ascending, counted from `first`."""
    values = scores.tolist()
    ranked = sorted(range(len(values)), key=lambda index: (-values[index], index))
    return tuple(first + index for index in sorted(ranked[:count]))


def _best_of_groups(scores: Tensor, count: int, groups: int) -> tuple[int, ...]:
    """As many indices of each of `groups` equal runs, `count` in all."""
    size = len(scores) // groups
    return tuple(
        index
        for group, run in enumerate(scores.split(size))
        for index in _best(run, count // groups, group * size)
    )
