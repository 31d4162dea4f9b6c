"""Which units stay: the shape that is asked for, and the choice of blocks, channels, neurons and heads that gives it.

Shapes: L blocks, D hidden size, F MLP width, H Mamba heads, P channels of a Mamba head, G groups of Mamba heads,
q attention heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.config import HybridConfig
from model.errors import UsageError


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
        """The config of a model of this shape, pruned from one of `config`; `pattern` holds the blocks that stay."""
        return config.model_copy(
            update={
                "pattern": pattern,
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
