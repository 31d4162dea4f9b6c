"""What a model remembers between calls: keys and values of attention blocks, conv and SSM state of Mamba blocks.

A batch row is one sequence; rows may have different lengths. `select` and `join` copy rows into a new state; `first_rows`
and `copy_row` are what `model.inference.slots` keeps a changing batch with.

Shapes: B batch rows, S cached tokens (capacity), k key/value heads, h head_dim, J = K - 1 conv inputs, C conv channels,
H Mamba heads, P head_dim, N state size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from model.config import ATTENTION, MAMBA, HybridConfig

GROWTH = 256
"""Cached tokens are allocated in steps of at least this many, doubling."""


@dataclass
class MambaState:
    """`ssm_BHPN` is float32 (float64 in a float64 model) whatever the weights are: lower precision drifts."""

    conv_BJC: Tensor
    ssm_BHPN: Tensor

    def select(self, rows: Sequence[int]) -> MambaState:
        return MambaState(self.conv_BJC[list(rows)], self.ssm_BHPN[list(rows)])

    @staticmethod
    def join(states: Sequence[MambaState]) -> MambaState:
        return MambaState(
            torch.cat([state.conv_BJC for state in states]), torch.cat([state.ssm_BHPN for state in states])
        )

    def first_rows(self, count: int) -> MambaState:
        return MambaState(self.conv_BJC[:count], self.ssm_BHPN[:count])

    def copy_row(self, row: int, source: MambaState, source_row: int) -> None:
        self.conv_BJC[row] = source.conv_BJC[source_row]
        self.ssm_BHPN[row] = source.ssm_BHPN[source_row]


@dataclass
class Places:
    """Where the tokens [B, T] of a call stand: those of row b behind `lengths[b]` others. `counts[b]` of them, one or more,
    are its own; what is behind them fills the row up and is to leave no trace."""

    lengths: list[int]
    counts: list[int]
    new: int
    device: torch.device

    @cached_property
    def lengths_B(self) -> Tensor:
        return torch.tensor(self.lengths, device=self.device)

    @cached_property
    def counts_B(self) -> Tensor | None:
        """None where all rows are full."""
        return torch.tensor(self.counts, device=self.device) if min(self.counts) < self.new else None

    @cached_property
    def visible_BTS(self) -> Tensor | None:
        """bool: which cached tokens each new one sees, itself included; None when all see all."""
        if self.new == 1 and len(set(self.lengths)) == 1:
            return None
        position_BT = self.lengths_B[:, None] + torch.arange(self.new, device=self.device)
        key_position_S = torch.arange(self.end, device=self.device)
        return key_position_S <= position_BT[..., None]

    @cached_property
    def beyond_BT(self) -> Tensor | None:
        """bool: the tokens that fill a row up; None where there are none."""
        if self.counts_B is None:
            return None
        return torch.arange(self.new, device=self.device) >= self.counts_B[:, None]

    @property
    def first(self) -> bool:
        """No row has any tokens yet."""
        return not any(self.lengths)

    @property
    def end(self) -> int:
        """How many tokens the longest row has with the new ones."""
        return max(self.lengths) + self.new


@dataclass
class KeyValueCache:
    """Keys and values [B, S, k, h]; the first `lengths[b]` of row b are valid."""

    key_BSkh: Tensor
    value_BSkh: Tensor

    def append(self, key_BTkh: Tensor, value_BTkh: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Store new tokens at their places; returns keys and values up to the longest row's new end."""
        end, lengths = places.end, places.lengths
        self.make_room(end)
        if len(set(lengths)) == 1:
            self.key_BSkh[:, lengths[0] : end] = key_BTkh
            self.value_BSkh[:, lengths[0] : end] = value_BTkh
        else:
            row_B1 = torch.arange(len(lengths), device=key_BTkh.device)[:, None]
            place_BT = places.lengths_B[:, None] + torch.arange(places.new, device=key_BTkh.device)
            self.key_BSkh[row_B1, place_BT] = key_BTkh
            self.value_BSkh[row_B1, place_BT] = value_BTkh
        return self.key_BSkh[:, :end], self.value_BSkh[:, :end]

    def make_room(self, end: int) -> None:
        """Room for `end` tokens a row, and for as many more as there are where it has to grow."""
        capacity = self.key_BSkh.shape[1]
        if end > capacity:
            self.reserve(max(end, 2 * capacity, GROWTH))

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` a row. What there is moves if there is not enough."""
        self.key_BSkh = _with_capacity(self.key_BSkh, tokens)
        self.value_BSkh = _with_capacity(self.value_BSkh, tokens)

    def select(self, rows: Sequence[int]) -> KeyValueCache:
        return KeyValueCache(self.key_BSkh[list(rows)], self.value_BSkh[list(rows)])

    @staticmethod
    def join(caches: Sequence[KeyValueCache]) -> KeyValueCache:
        capacity = max(cache.key_BSkh.shape[1] for cache in caches)
        return KeyValueCache(
            torch.cat([_with_capacity(cache.key_BSkh, capacity) for cache in caches]),
            torch.cat([_with_capacity(cache.value_BSkh, capacity) for cache in caches]),
        )

    def first_rows(self, count: int) -> KeyValueCache:
        return KeyValueCache(self.key_BSkh[:count], self.value_BSkh[:count])

    def copy_row(self, row: int, source: KeyValueCache, source_row: int, length: int) -> None:
        self.key_BSkh[row, :length] = source.key_BSkh[source_row, :length]
        self.value_BSkh[row, :length] = source.value_BSkh[source_row, :length]


@dataclass
class InferenceState:
    """State of every block (None for an MLP), and how many tokens each row has seen."""

    blocks: list[MambaState | KeyValueCache | None]
    lengths: list[int]

    @classmethod
    def empty(
        cls,
        config: HybridConfig,
        batch: int = 1,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> InferenceState:
        """A state before the first token. `dtype` is that of the activations."""
        wide = torch.promote_types(dtype, torch.float32)
        blocks: list[MambaState | KeyValueCache | None] = []
        for letter in config.pattern:
            if letter == MAMBA:
                conv = torch.zeros(
                    batch, config.conv_kernel - 1, config.conv_width, dtype=dtype, device=device
                )
                ssm_shape = (batch, config.mamba_num_heads, config.mamba_head_dim, config.ssm_state_size)
                blocks.append(MambaState(conv, torch.zeros(ssm_shape, dtype=wide, device=device)))
            elif letter == ATTENTION:
                shape = (batch, 0, config.num_key_value_heads, config.head_dim)
                blocks.append(
                    KeyValueCache(
                        torch.empty(shape, dtype=dtype, device=device),
                        torch.empty(shape, dtype=dtype, device=device),
                    )
                )
            else:
                blocks.append(None)
        return cls(blocks, [0] * batch)

    def select(self, rows: Sequence[int]) -> InferenceState:
        """The state of some rows, copied, in the given order."""
        return InferenceState(
            [None if block is None else block.select(rows) for block in self.blocks],
            [self.lengths[row] for row in rows],
        )

    @classmethod
    def join(cls, states: Sequence[InferenceState]) -> InferenceState:
        """The rows of several states, in order, as one batch."""
        blocks: list[MambaState | KeyValueCache | None] = []
        for parts in zip(*(state.blocks for state in states), strict=True):
            if isinstance(parts[0], MambaState):
                blocks.append(MambaState.join(parts))
            elif isinstance(parts[0], KeyValueCache):
                blocks.append(KeyValueCache.join(parts))
            else:
                blocks.append(None)
        return cls(blocks, [length for state in states for length in state.lengths])

    def first_rows(self, lengths: Sequence[int]) -> InferenceState:
        """A view of as many rows as there are lengths, not copied: what is written into it is written here."""
        count = len(lengths)
        return InferenceState(
            [None if block is None else block.first_rows(count) for block in self.blocks], list(lengths)
        )

    def copy_row(self, row: int, source: InferenceState, source_row: int) -> None:
        """Overwrite a row with one of another state, which must not hold more tokens than there is room for here."""
        length = source.lengths[source_row]
        for mine, other in zip(self.blocks, source.blocks, strict=True):
            if isinstance(mine, MambaState) and isinstance(other, MambaState):
                mine.copy_row(row, other, source_row)
            elif isinstance(mine, KeyValueCache) and isinstance(other, KeyValueCache):
                mine.copy_row(row, other, source_row, length)
        self.lengths[row] = length

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` cached tokens in every row."""
        for block in self.blocks:
            if isinstance(block, KeyValueCache):
                block.reserve(tokens)

    def places(self, new: int, device: torch.device, counts: Sequence[int] | None = None) -> Places:
        """Where `new` tokens of each row come to stand, of which `counts[b]` count (None: all of them)."""
        return Places(
            self.lengths, [new] * len(self.lengths) if counts is None else list(counts), new, device
        )

    def advance(self, counts: Sequence[int]) -> None:
        """Row b has `counts[b]` tokens more."""
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]


def _with_capacity(cached_BSkh: Tensor, capacity: int) -> Tensor:
    """Zeros behind the cached tokens: masked positions must hold finite numbers."""
    missing = capacity - cached_BSkh.shape[1]
    return torch.nn.functional.pad(cached_BSkh, (0, 0, 0, 0, 0, missing)) if missing > 0 else cached_BSkh
