"""What is measured: the ways in which either side may run the same optimizer step. No torch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product, zip_longest
from typing import Literal

from stages.bench.train.config import TrainBenchConfig

Side = Literal["nano2", "hf"]

AUTOCAST, HALF_WEIGHTS = "bfloat16 autocast", "bfloat16 weights"
THEIR_PRECISIONS = {"float32": ("float32",), "bfloat16": ("float32", AUTOCAST, HALF_WEIGHTS)}
"""By our precision what transformers may choose from. Half weights have half moments: less memory and work than ours, and
less exact than the masters of the others."""

SLOW = 4
"""A precision whose products run at less than this part of the fastest's rate is nobody's best."""


@dataclass(frozen=True)
class Point:
    """precision: its first word is that of the matrix products. recompute: kinds of blocks; of hf all or none.
    attention: transformers' implementation; this core has one."""

    side: Side
    micro_batch: int
    precision: str
    recompute: tuple[str, ...] = ()
    attention: str = "sdpa"

    @property
    def products(self) -> str:
        return self.precision.split()[0]

    def config(self) -> str:
        """What distinguishes it besides its micro-batch, in words."""
        if self.side == "nano2":
            return f"{self.precision}, recompute {'+'.join(self.recompute) or 'none'}"
        return f"{self.precision}, {self.attention}, checkpointing {'on' if self.recompute else 'off'}"

    def __str__(self) -> str:
        return f"{self.side}, micro-batch {self.micro_batch}, {self.config()}"


def our_points(config: TrainBenchConfig) -> list[Point]:
    return [
        Point("nano2", size, config.precision, kinds)
        for kinds, size in product(config.recomputed, config.micro_batch)
    ]


def their_points(config: TrainBenchConfig, kinds: Sequence[str], precisions: Collection[str]) -> list[Point]:
    """kinds: those of the shape's blocks. precisions: of products, that are worth trying."""
    return [
        Point("hf", size, precision, recompute)
        for precision in THEIR_PRECISIONS[config.precision]
        if precision.split()[0] in precisions
        for recompute, size in product(((), tuple(kinds)), config.micro_batch)
    ]


def in_turns(*sides: Sequence[Point]) -> list[Point]:
    return [point for point in chain.from_iterable(zip_longest(*sides)) if point is not None]


def other_attention(best: Point) -> Point:
    """What is tried at transformers' best point alone: attention is a few of the pattern's blocks."""
    return replace(best, attention="eager")
