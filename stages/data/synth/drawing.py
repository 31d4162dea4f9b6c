"""Which problems a run takes: shares of families and levels, and different problems of one split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from model.errors import UsageError
from stages.data.synth.catalog import FAMILIES
from stages.data.synth.config import FamilyLevels, SynthConfig
from stages.data.synth.dice import Dice
from stages.data.synth.problem import Family, Problem, Split


@dataclass(frozen=True)
class Source:
    """One family at one level, and its share of the rows."""

    family: Family
    level: int
    share: float


def sources(config: SynthConfig) -> list[Source]:
    """The families and levels that a config asks for, in the order of the catalog; shares add up to 1.

    Raises UsageError for a family that is not there or not of the kinds, a kind without a family, and a level that a
    family does not have.
    """
    chosen = {item.name: item for item in config.families} or {
        name: FamilyLevels(name=name) for name in FAMILIES
    }
    for name, item in chosen.items():
        _refuse_unknown(name, item, config)
    by_kind = {
        kind: [family for family in FAMILIES.values() if family.kind == kind and family.name in chosen]
        for kind in config.kinds
    }
    if missing := next((kind for kind, families in by_kind.items() if not families), None):
        raise UsageError(
            f"none of the families is of the kind {missing!r}",
            where="families",
            remedy=f"add one of {', '.join(_names(missing))}, or leave {missing} out of kinds",
        )
    total = sum(config.kinds.values())
    found = []
    for kind, families in by_kind.items():
        for family in families:
            levels = _levels(family, chosen[family.name], config)
            share = config.kinds[kind] / total / len(families) / len(levels)
            found += [Source(family, level, share) for level in levels]
    order = list(FAMILIES)
    return sorted(found, key=lambda source: (order.index(source.family.name), source.level))


def allot(rows: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `rows`, in the shares' proportions (largest remainder, the first on a tie)."""
    exact = [rows * share / sum(shares) for share in shares]
    counts = [int(count) for count in exact]
    by_remainder = sorted(range(len(shares)), key=lambda place: (counts[place] - exact[place], place))
    for place in by_remainder[: rows - sum(counts)]:
        counts[place] += 1
    return counts


@dataclass
class Drawer:
    """Draws problems of one split, none twice.

    Memory: some 70 bytes a problem drawn, to know it again.
    """

    split: Split
    seed: int
    _seen: dict[str, set[int]] = field(default_factory=dict)
    _dice: dict[tuple[str, int], Dice] = field(default_factory=dict)

    def dice(self, source: Source) -> Dice:
        """The choices of one source in this split."""
        key = source.family.name, source.level
        if key not in self._dice:
            self._dice[key] = Dice("nano2 data synth", self.seed, self.split, *key)
        return self._dice[key]

    def draw(self, source: Source) -> tuple[int, Problem]:
        """A new problem and its identity. UsageError when no more are found."""
        seen, dice = self._seen.setdefault(source.family.name, set()), self.dice(source)
        patience = 400 + 20 * len(seen)
        for _ in range(patience):
            problem = source.family.draw(source.level, dice)
            if source.family.split(problem) != self.split:
                continue
            identity = source.family.identity(problem)
            if identity not in seen:
                seen.add(identity)
                return identity, problem
        raise UsageError(
            f"{len(seen)} different problems of the family {source.family.name!r} are in {self.split}.jsonl, and "
            f"{patience:,} more draws at level {source.level} found no other",
            where=f"{self.split} rows",
            remedy="ask for fewer rows, more families or higher levels",
        )


def _refuse_unknown(name: str, item: FamilyLevels, config: SynthConfig) -> None:
    if name not in FAMILIES:
        raise UsageError(
            f"there is no family {name!r}",
            where="families",
            remedy=f"choose among {', '.join(FAMILIES)}",
        )
    family = FAMILIES[name]
    if family.kind not in config.kinds:
        raise UsageError(
            f"the family {name!r} is of the kind {family.kind!r}, which is not among the kinds",
            where="families",
            remedy=f"add {family.kind} to kinds, or leave the family out",
        )
    top = family.max_level
    if top is not None and item.high is not None and item.high > top:
        raise UsageError(
            f"the family {name!r} has levels 1 to {top}, and {item.high} is asked for",
            where="families",
            remedy=f"write {name}:{min(item.low or 1, top)}-{top}",
        )


def _levels(family: Family, item: FamilyLevels, config: SynthConfig) -> list[int]:
    if item.low is not None and item.high is not None:
        return list(range(item.low, item.high + 1))
    top = config.max_level if family.max_level is None else min(config.max_level, family.max_level)
    if config.min_level > top:
        raise UsageError(
            f"the family {family.name!r} has levels 1 to {family.max_level}, and min_level is {config.min_level}",
            where="min_level",
            remedy="lower it, or name the families with their levels",
        )
    return list(range(config.min_level, top + 1))


def _names(kind: str) -> list[str]:
    return [family.name for family in FAMILIES.values() if family.kind == kind]


def schedule(counts: Mapping[int, int] | Sequence[int], dice: Dice) -> list[int]:
    """Indices of sources, each as often as its count, in random order."""
    items = counts.items() if isinstance(counts, Mapping) else enumerate(counts)
    return dice.shuffled([index for index, count in items for _ in range(count)])
