"""Which problems a run takes: shares of families and levels, and different problems of one split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from model.errors import UsageError
from stages.data.synth.catalog import FAMILIES
from stages.data.synth.config import DEFAULT_KINDS, MAX_LEVEL, FamilyLevels, Kind, SynthConfig
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
    if unknown := next((name for name in chosen if name not in FAMILIES), None):
        raise UsageError(
            f"there is no family {unknown!r}",
            where="families",
            remedy=f"choose among {', '.join(FAMILIES)}",
        )
    families = [family for family in FAMILIES.values() if family.name in chosen]
    kinds = _shares_of_kinds(config, families)
    if config.families:
        _refuse_without_kind(families, kinds)
    total, found = sum(kinds.values()), []
    for family in families:
        if family.kind in kinds:
            levels = _levels(family, chosen[family.name], config)
            siblings = sum(other.kind == family.kind for other in families)
            share = kinds[family.kind] / total / siblings / len(levels)
            found += [Source(family, level, share) for level in levels]
    return found


def allot(rows: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `rows`, in the shares' proportions (largest remainder, the first on a tie)."""
    exact = [rows * share / sum(shares) for share in shares]
    counts = [int(count) for count in exact]
    by_remainder = sorted(range(len(shares)), key=lambda place: (counts[place] - exact[place], place))
    for place in by_remainder[: rows - sum(counts)]:
        counts[place] += 1
    return counts


def apportion(rows: int, found: Sequence[Source]) -> list[int]:
    """Rows of each source: first the kinds get their shares, then the families of each, then their levels."""
    counts = [0] * len(found)

    def share_out(rows: int, numbers: Sequence[int], keys: Sequence[Callable[[Source], object]]) -> None:
        if not keys:
            (number,) = numbers
            counts[number] = rows
            return
        groups: dict[object, list[int]] = {}
        for number in numbers:
            groups.setdefault(keys[0](found[number]), []).append(number)
        shares = [sum(found[number].share for number in group) for group in groups.values()]
        for group, count in zip(groups.values(), allot(rows, shares), strict=True):
            share_out(count, group, keys[1:])

    share_out(
        rows,
        range(len(found)),
        (lambda item: item.family.kind, lambda item: item.family.name, lambda item: item.level),
    )
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
        repeats, draws = 0, 0
        while repeats < 50 + 20 * len(seen) and draws < 1000 + 400 * len(seen):
            draws += 1
            problem = source.family.draw(source.level, dice)
            if source.family.split(problem) is not self.split:
                continue
            identity = source.family.identity(problem)
            if identity not in seen:
                seen.add(identity)
                return identity, problem
            repeats += 1
        raise UsageError(
            f"{self.split}.jsonl has {len(seen):,} different problems of the family {source.family.name!r}, and {draws:,} "
            f"draws at level {source.level} found no other",
            where=f"{self.split} rows",
            remedy="ask for fewer rows, more families or higher levels",
        )


def _shares_of_kinds(config: SynthConfig, families: Sequence[Family]) -> dict[Kind, float]:
    present = {family.kind for family in families}
    if not config.kinds:
        named = present if config.families else present & DEFAULT_KINDS.keys()
        return {kind: DEFAULT_KINDS.get(kind, 1.0) for kind in sorted(named)}
    if missing := next((kind for kind in config.kinds if kind not in present), None):
        names = ", ".join(family.name for family in FAMILIES.values() if family.kind == missing)
        raise UsageError(
            f"none of the families is of the kind {missing!r}",
            where="families",
            remedy=f"add one of {names}, or leave {missing} out of kinds",
        )
    return dict(config.kinds)


def _refuse_without_kind(families: Sequence[Family], kinds: Mapping[Kind, float]) -> None:
    if left_out := next((family for family in families if family.kind not in kinds), None):
        raise UsageError(
            f"the family {left_out.name!r} is of the kind {left_out.kind!r}, which is not among the kinds",
            where="families",
            remedy=f"add {left_out.kind} to kinds, or leave the family out",
        )


def _levels(family: Family, item: FamilyLevels, config: SynthConfig) -> list[int]:
    """The levels asked for; general bounds are cut to what the family has."""
    top = family.max_level or MAX_LEVEL
    low, high = item.low or config.min_level, item.high or min(config.max_level, top)
    if high > top or low > high:
        raise UsageError(
            f"the family {family.name!r} has levels 1 to {top}, and {max(low, high)} is asked for",
            where="families" if item.low else "min_level",
            remedy="ask for levels that it has, or leave the family out",
        )
    return list(range(low, high + 1))


def schedule(counts: Sequence[int], dice: Dice) -> list[int]:
    """Numbers of sources, each as often as its count, in random order."""
    return dice.shuffled([number for number, count in enumerate(counts) for _ in range(count)])
