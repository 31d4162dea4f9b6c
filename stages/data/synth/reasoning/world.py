"""Units and small stories."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.reasoning.base import Phrase, ReasoningProblem, minus, plus, times
from stages.data.synth.words import PEOPLE, word_list


@dataclass(frozen=True)
class Units(ReasoningProblem):
    """Amounts in two units put together: one amount at level 1, one more a level, from level 3 on several times.

    parts: (sign, how often, amount in the large unit, amount in the small one).
    """

    unit: int
    parts: tuple[tuple[int, int, int, int], ...]

    wordings = Wordings(
        ("How many {small} are {parts}?", "Convert {parts} to {small}.", "{parts}: what is that in {small}?"),
        ("Somebody measures {parts}. What does that come to in {small}?", "Express {parts} in {small}."),
    )

    _UNITS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("hour", "hours", "minutes", 60),
        ("minute", "minutes", "seconds", 60),
        ("day", "days", "hours", 24),
        ("week", "weeks", "days", 7),
        ("year", "years", "months", 12),
        ("metre", "metres", "centimetres", 100),
        ("kilometre", "kilometres", "metres", 1000),
        ("kilogram", "kilograms", "grams", 1000),
        ("litre", "litres", "millilitres", 1000),
        ("foot", "feet", "inches", 12),
        ("yard", "yards", "feet", 3),
        ("pound", "pounds", "ounces", 16),
        ("gallon", "gallons", "pints", 8),
        ("dozen", "dozens", "pieces", 12),
        ("dollar", "dollars", "cents", 100),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        unit = dice.below(len(cls._UNITS))
        factor = cls._UNITS[unit][3]
        parts = []
        for number in range(level):
            often = dice.integer(2, 5) if level >= 3 and dice.chance(0.5) else 1
            parts.append((1, often, dice.integer(2, 6 + 3 * level), dice.integer(1, factor - 1)))
            if (
                level >= 3
                and number
                and dice.chance(0.3)
                and _value(parts[:-1], factor) > _value(parts[-1:], factor)
            ):
                parts[-1] = (-1, *parts[-1][1:])
        return cls(unit, tuple(parts))

    @property
    def essence(self) -> Any:
        return [self.unit, *sorted(self.parts)]

    @property
    def answer(self) -> int:
        return _value(list(self.parts), self._UNITS[self.unit][3])

    def words(self) -> dict[str, str]:
        _, large, small, _ = self._UNITS[self.unit]
        text = ""
        for sign, often, whole, rest in self.parts:
            amount = f"{whole} {large} {rest} {small}"
            amount = f"{often} times ({amount})" if often > 1 else amount
            text += (" plus " if sign > 0 else " minus ") + amount if text else amount
        return {"parts": text, "small": small}

    def steps(self, long: bool) -> list[str]:
        one, _, small, factor = self._UNITS[self.unit]
        lines, total = [f"one {one} has {factor} {small}"] if long else [], 0
        for number, (sign, often, whole, rest) in enumerate(self.parts):
            value = whole * factor
            lines += times(whole, factor, False)
            lines += plus(value, rest, long)
            value += rest
            if often > 1:
                lines += times(often, value, long)
                value *= often
            if number:
                lines += plus(total, value, long) if sign > 0 else minus(total, value, long)
            total += sign * value
        return lines

    def checks(self) -> list[str]:
        """The two units apart."""
        *_, factor = self._UNITS[self.unit]
        wholes = [sign * often * whole for sign, often, whole, _ in self.parts]
        rests = [sign * often * rest for sign, often, _, rest in self.parts]
        lines = [f"sum({wholes}) = {sum(wholes)}", f"sum({rests}) = {sum(rests)}"]
        return [*lines, f"{sum(wholes)} * {factor} + {sum(rests)} = {self.answer}"]


def _value(parts: list[tuple[int, int, int, int]], factor: int) -> int:
    return sum(sign * often * (whole * factor + rest) for sign, often, whole, rest in parts)


@dataclass(frozen=True)
class Stories(ReasoningProblem):
    """Somebody's things come and go: three events at level 1, one more a level; from level 2 on in groups, from
    level 4 on doubled and shared."""

    person: str
    friend: str
    thing: str
    start: int
    events: tuple[tuple[str, int, int], ...]  # kind, amount, size of a group

    wordings = Wordings(
        (
            "{person} has {start} {thing}. {events}. How many {thing} does {person} have now?",
            "{person} starts with {start} {thing}. {events}. How many {thing} are left with {person}?",
            "At first {person} has {start} {thing}. {events}. What number of {thing} does {person} have in the end?",
        ),
        (
            "There are {start} {thing} in {person}'s basket. {events}. How many {thing} does {person} own after that?",
            "A story: {person} owns {start} {thing}. {events}. Count the {thing} of {person} at the end.",
        ),
    )

    _EVENTS: ClassVar[dict[str, Wordings]] = {
        "gain": Wordings(
            (
                "{person} finds {amount} more",
                "{friend} gives {person} {amount} more",
                "{person} buys {amount} more",
            ),
            ("Another {amount} come in the post for {person}",),
        ),
        "lose": Wordings(
            (
                "{person} gives {amount} to {friend}",
                "{person} loses {amount}",
                "{person} sells {amount} of them",
            ),
            ("{amount} of them are taken away by {friend}",),
        ),
        "groups": Wordings(
            (
                "{person} buys {amount} bags with {size} {thing} each",
                "{friend} brings {amount} boxes of {size} {thing}",
            ),
            ("{person} fetches {amount} nets, and in each are {size} {thing}",),
        ),
        "double": Wordings(
            ("{friend} doubles what {person} has", "The number doubles"), ("{person} gets as many again",)
        ),
        "share": Wordings(
            (
                "{person} shares all of them equally among {amount} people, {person} being one of these",
                "{person} splits them into {amount} equal parts and keeps one part",
            ),
            ("They are divided by {amount}, and {person} keeps a single share",),
        ),
    }
    _THINGS: ClassVar = word_list(
        "apples pears nuts shells coins pens stamps cards marbles buttons candles beads"
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        person, friend = dice.sample(PEOPLE, 2)
        largest = 8 + 4 * level
        value = start = dice.integer(2, largest)
        events: list[tuple[str, int, int]] = []
        kinds = ("gain", "lose", "groups")[: 2 if level == 1 else 3] + (
            ("double", "share") if level >= 4 else ()
        )
        while len(events) < level + 2:
            kind, amount, size = dice.choice(kinds), dice.integer(2, largest), dice.integer(2, 9)
            amount = min(amount, 9) if kind == "groups" else amount
            if kind == "share":
                amount = next((part for part in range(2, 10) if value % part == 0), 0)
            if (
                (kind == "lose" and amount > value)
                or (kind == "share" and not amount)
                or (kind == "double" and value > 500)
            ):
                continue
            event = (kind, amount if kind != "double" else 2, size if kind == "groups" else 0)
            after = _after(value, event)
            if after > 0:
                events.append(event)
                value = after
        return cls(person, friend, dice.choice(cls._THINGS), start, tuple(events))

    @property
    def essence(self) -> Any:
        return [self.start, self.events]

    @property
    def answer(self) -> int:
        value = self.start
        for event in self.events:
            value = _after(value, event)
        return value

    def words(self) -> dict[str, str]:
        return {"person": self.person, "thing": self.thing, "start": str(self.start)}

    def phrases(self) -> dict[str, list[Phrase]]:
        names = {"person": self.person, "friend": self.friend, "thing": self.thing}
        events: list[Phrase] = []
        for kind, amount, size in self.events:
            events.append((self._EVENTS[kind], {**names, "amount": amount, "size": size}))
        return {"events": events}

    def steps(self, long: bool) -> list[str]:
        lines, value = [], self.start
        for event in self.events:
            kind, amount, size = event
            after = _after(value, event)
            match kind:
                case "gain":
                    lines += plus(value, amount, long)
                case "lose":
                    lines += minus(value, amount, long)
                case "groups":
                    lines += times(amount, size, long) + plus(value, amount * size, long)
                case "double":
                    lines += plus(value, value, long)
                case _:
                    lines.append(f"{value} / {amount} = {after}")
            value = after
        return lines

    def checks(self) -> list[str]:
        """Backwards, from the end to the start."""
        values = [self.start]
        for event in self.events:
            values.append(_after(values[-1], event))
        lines = []
        for (before, after), (kind, amount, size) in zip(
            reversed(list(pairwise(values))), reversed(self.events), strict=True
        ):
            match kind:
                case "gain":
                    lines.append(f"{after} - {amount} = {before}")
                case "lose":
                    lines.append(f"{after} + {amount} = {before}")
                case "groups":
                    lines.append(f"{after} - {amount} * {size} = {before}")
                case "double":
                    lines.append(f"{after} / 2 = {before}")
                case _:
                    lines.append(f"{after} * {amount} = {before}")
        return lines


def _after(value: int, event: tuple[str, int, int]) -> int:
    kind, amount, size = event
    match kind:
        case "gain":
            return value + amount
        case "lose":
            return value - amount
        case "groups":
            return value + amount * size
        case "double":
            return value * 2
        case _:
            return value // amount
