"""Which shapes fit a budget, in which order they are tried, and which ones are. No torch here.

The order is the report's (section 4.2): of the shapes that fit, those first that take the most memory.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model.config import HybridConfig
from model.errors import PlanRefusedError
from stages.prune.kept import Shape
from stages.prune.search.blocks import Blocks
from stages.prune.search.budget import GIB, Budget, Footprint
from stages.prune.search.space import describe

BlocksAt = Callable[[int], Blocks]
"""Of a depth, the blocks that stay."""


@dataclass(frozen=True)
class Candidate:
    """A shape, its blocks by kind, and what it takes. `rank`: its place, from 1, among the shapes of its depth that fit;
    0 where the budget is not met."""

    shape: Shape
    blocks: Blocks
    footprint: Footprint
    excess: float
    rank: int = 0

    @property
    def fits(self) -> bool:
        return self.excess <= 0

    def applied(self, whole: HybridConfig) -> HybridConfig:
        """A config of this shape; only the order of its blocks may be another."""
        return self.shape.applied(whole, self.blocks.pattern)

    def row(self) -> dict[str, Any]:
        return {
            **vars(self.shape),
            "blocks": str(self.blocks),
            "params": self.footprint.parameters,
            "memory_gib": round(self.footprint.total_bytes / GIB, 3),
            "rank": self.rank,
        }


@dataclass(frozen=True)
class Candidates:
    """All shapes, ranked within their depth; and those that the user gave, in the user's order."""

    whole: HybridConfig
    blocks_at: BlocksAt
    budget: Budget
    ranked: Sequence[Candidate]
    given: Sequence[Candidate]

    @classmethod
    def of(
        cls,
        grid: Sequence[Shape],
        given: Sequence[Shape],
        whole: HybridConfig,
        blocks_at: BlocksAt,
        budget: Budget,
    ) -> "Candidates":
        """Measures the shapes of the grid and those given against the budget, and ranks them."""
        shapes = dict.fromkeys([*grid, *given])
        found = [_measured(shape, whole, blocks_at, budget) for shape in shapes]
        found.sort(
            key=lambda each: (each.shape.layers, -each.footprint.total_bytes, *vars(each.shape).values())
        )
        places: Counter[int] = Counter()
        for place, candidate in enumerate(found):
            if candidate.fits:
                places[candidate.shape.layers] += 1
                found[place] = replace(candidate, rank=places[candidate.shape.layers])
        by_shape = {candidate.shape: candidate for candidate in found}
        return cls(whole, blocks_at, budget, found, [by_shape[shape] for shape in dict.fromkeys(given)])

    @property
    def fitting(self) -> list[Candidate]:
        return [candidate for candidate in self.ranked if candidate.fits]

    def at(self, depth: int) -> list[Candidate]:
        """Those that fit at a depth, the largest first."""
        return [candidate for candidate in self.fitting if candidate.shape.layers == depth]

    def depths(self) -> list["Candidate"]:
        """The whole widths at each depth at which something fits, the deepest first, whether they fit or not."""
        depths = sorted({candidate.shape.layers for candidate in self.fitting}, reverse=True)
        shapes = [replace(Shape.of(self.whole), layers=depth) for depth in depths]
        return [_measured(shape, self.whole, self.blocks_at, self.budget) for shape in shapes]

    def check(self) -> None:
        """PlanRefusedError where none fits, or not all that were given: it names the closest, and by how much it misses."""
        too_large = [candidate for candidate in self.given if not candidate.fits]
        if too_large or not self.fitting:
            worst = min(too_large or self.ranked, key=lambda candidate: candidate.excess)
            shape = describe(worst.shape, Shape.of(self.whole))
            misses = self.budget.shortfall(worst.footprint)
            raise PlanRefusedError(
                f"a shape that was given ({shape}) {misses}"
                if too_large
                else f"no shape meets the budget; the closest ({shape}) {misses}",
                where="nano2 prune",
                remedy="allow more, or give smaller widths or depths",
            )


def _measured(shape: Shape, whole: HybridConfig, blocks_at: BlocksAt, budget: Budget) -> Candidate:
    blocks = blocks_at(shape.layers)
    footprint = budget.footprint(shape.applied(whole, blocks.pattern))
    return Candidate(shape, blocks, footprint, budget.excess(footprint))
