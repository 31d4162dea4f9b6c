"""What is measured: the ways in which either side may run the same optimizer step. No torch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product, zip_longest
from typing import Literal

from stages.bench.train.config import TrainBenchConfig

Side = Literal["nano2", "hf"]

AUTOCAST, HALF_WEIGHTS = "bfloat16 autocast", "bfloat16 weights"
THEIR_PRECISIONS = {"float32": ("float32",), "bfloat16": ("float32", AUTOCAST, HALF_WEIGHTS)}
"""By the precision of our activations what transformers may choose from. Half weights have half moments: less memory and
work than ours, and less exact than the masters of the others."""

SLOW = 4
"""A precision whose products run at less than this part of the fastest's rate is nobody's best."""


@dataclass(frozen=True)
class Point:
    """precision: its first word is that of the matrix products. recompute: kinds of blocks; of hf all or none.
    attention: transformers' implementation; this core has one. sharded: by FSDP2, over one rank. pieces: of each row."""

    side: Side
    micro_batch: int
    precision: str
    recompute: tuple[str, ...] = ()
    attention: str = "sdpa"
    sharded: bool = False
    pieces: int = 1

    @property
    def products(self) -> str:
        return self.precision.split()[0]

    @property
    def activations(self) -> str:
        """The precision of activations, and of products that are not in FP8."""
        return "float32" if self.products == "float32" else "bfloat16"

    @property
    def competes(self) -> bool:
        """Is it a way to be fast? Not one that only shows what something costs."""
        return not self.sharded and self.pieces == 1

    def config(self) -> str:
        """What distinguishes it besides its micro-batch, in words."""
        if self.side == "hf":
            return f"{self.precision}, {self.attention}, checkpointing {'on' if self.recompute else 'off'}"
        words = [self.precision, f"recompute {'+'.join(self.recompute) or 'none'}"]
        words += ["FSDP2 on one rank"] if self.sharded else []
        words += [f"rows in {self.pieces} pieces"] if self.pieces > 1 else []
        return ", ".join(words)

    def __str__(self) -> str:
        return f"{self.side}, micro-batch {self.micro_batch}, {self.config()}"


def our_points(config: TrainBenchConfig) -> list[Point]:
    return [
        Point("nano2", size, precision, kinds)
        for precision, kinds, size in product(config.precision, config.recomputed, config.micro_batch)
    ]


def their_points(config: TrainBenchConfig, kinds: Sequence[str], precisions: Collection[str]) -> list[Point]:
    """kinds: those of the shape's blocks. precisions: of products, that are worth trying."""
    return [
        Point("hf", size, precision, recompute)
        for precision in THEIR_PRECISIONS["float32" if set(config.precision) == {"float32"} else "bfloat16"]
        if precision.split()[0] in precisions
        for recompute, size in product(((), tuple(kinds)), config.micro_batch)
    ]


def in_turns(*sides: Sequence[Point]) -> list[Point]:
    return [point for point in chain.from_iterable(zip_longest(*sides)) if point is not None]


def other_attentions(best: Point, *, flash: bool) -> list[Point]:
    """What is tried at transformers' best point alone: attention is a few of the pattern's blocks. flash: can it have the
    flash_attn package?"""
    return [replace(best, attention=name) for name in ("eager", *(["flash_attention_2"] if flash else []))]


def shown_beside(config: TrainBenchConfig, fitting: Sequence[Point]) -> list[Point]:
    """What does not compete, each behind the point that it is compared with; all in the first precision, without
    recomputation. fitting: our points, the best first.

    Sharding is shown at the best of them, pieces, which need most memory, at the smallest micro-batch.
    """
    plain = [point for point in fitting if point.precision == config.precision[0] and not point.recompute]
    if not plain:
        return []
    smallest = min(plain, key=lambda point: point.micro_batch)
    sharded = [plain[0], replace(plain[0], sharded=True)] if config.fsdp else []
    cut = [replace(smallest, pieces=pieces) for pieces in config.pieces]
    return [*sharded, *([smallest, *cut] if cut else [])]
