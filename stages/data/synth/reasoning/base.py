"""What every reasoning family shares: question, trace and answer of one problem, and their verification."""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Problem, Sample, Style, Trace, Wordings, assistant, user
from stages.data.synth.reasoning.arithmetic import check_trace

Phrase = tuple[Wordings, Mapping[str, object]]
"""Ways to say something, and what stands in their places."""

_LAST_INTEGER = re.compile(r"-?\d+(?!.*\d)", re.DOTALL)


class ReasoningProblem(Problem):
    """A problem whose answer is an integer. Subclasses are frozen dataclasses of the problem's parameters.

    The answer is computed directly, the trace step by step; `write` compares the two.
    """

    max_level: ClassVar[int | None] = None
    """The level from which problems get no harder; None: there is none."""
    wordings: ClassVar[Wordings]
    """Questions, with the places that `words` fills."""

    @classmethod
    @abstractmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        """A random problem of a level from 1."""

    @property
    @abstractmethod
    def answer(self) -> int:
        """The right answer, by a computation that shares nothing with the trace."""

    @abstractmethod
    def words(self) -> Mapping[str, str]:
        """What stands in the places of a wording."""

    def phrases(self) -> Mapping[str, Sequence[Phrase]]:
        """What else stands there and can be worded in several ways; several phrases become sentences."""
        return {}

    @abstractmethod
    def steps(self, long: bool) -> list[str]:
        """The trace's lines, one a step, the last of which ends in the answer; `long` works out each step."""

    @abstractmethod
    def checks(self) -> list[str]:
        """Lines that confirm the answer in another way than `steps` found it."""

    @property
    def content(self) -> Any:
        return [getattr(self, item.name) for item in fields(self)]  # type: ignore[arg-type]

    @property
    def known(self) -> dict[str, int]:
        """Names in the trace that have a value from the start."""
        return {}

    def verify(self, lines: list[str]) -> None:
        """Raise ValueError if a line is false."""
        check_trace(lines, self.known)

    def trace(self, trace: Trace) -> list[str]:
        """The lines of reasoning."""
        lines = self.steps(trace != "short")
        if trace == "checked":
            lines = [*lines, "Now a check.", *self.checks(), f"So it is {self.answer}"]
        return lines

    def write(self, dice: Dice, style: Style) -> Sample:
        name, wording = self.wordings.pick(dice, style.held_out)
        places = {
            place: ". ".join(_worded(item, dice, style) for item in items)
            for place, items in self.phrases().items()
        }
        question = wording.format(**self.words(), **places)
        lines = self.trace(style.trace)
        self._verify(lines)
        return Sample(
            [user(question), assistant(f"The answer is {self.answer}.", "\n".join(lines))],
            {"name": "math", "answer": str(self.answer)},
            {"wording": name, "trace": style.trace, "trace_lines": len(lines)},
        )

    def _verify(self, lines: list[str]) -> None:
        try:
            self.verify(lines)
        except ValueError as error:
            raise AssertionError(f"false trace of {self}: {error}") from None
        last = _LAST_INTEGER.search(lines[-1])
        if last is None or int(last.group()) != self.answer:
            raise AssertionError(f"the trace of {self} does not end in {self.answer}: {lines[-1]!r}")


def _worded(phrase: Phrase, dice: Dice, style: Style) -> str:
    wordings, values = phrase
    return wordings.pick(dice, style.held_out)[1].format(**values)


def listing(items: list[str] | tuple[str, ...], last: str = "and") -> str:
    """`a, b and c`."""
    return f"{', '.join(items[:-1])} {last} {items[-1]}" if len(items) > 1 else "".join(items)


def plus(left: int, right: int, long: bool) -> list[str]:
    """The lines of `left + right`, both at least 0; `long` adds place by place, and goes by way of the next ten."""
    lines = []
    if long and left >= 0:
        lines = _in_parts(left, "+", _parts_of(right, 10 - left % 10))
    return [*lines, f"{left} + {right} = {left + right}"]


def minus(left: int, right: int, long: bool) -> list[str]:
    """The lines of `left - right`, with 0 <= right <= left."""
    lines = _in_parts(left, "-", _parts_of(right, left % 10)) if long else []
    return [*lines, f"{left} - {right} = {left - right}"]


def times(left: int, right: int, long: bool) -> list[str]:
    """The lines of `left * right`, both at least 0; `long` multiplies by one place of `right` at a time."""
    lines: list[str] = []
    if long and len(parts := places(right)) > 1:
        products = [left * part for part in parts]
        lines = [f"{left} * {part} = {product}" for part, product in zip(parts, products, strict=True)]
        lines.append(f"{' + '.join(map(str, products))} = {left * right}")
    return [*lines, f"{left} * {right} = {left * right}"]


def places(number: int) -> list[int]:
    """The values of a number's digits, without zeros: 308 is 300 and 8."""
    digits = str(number)
    return [
        int(digit) * 10 ** (len(digits) - 1 - place) for place, digit in enumerate(digits) if digit != "0"
    ]


def _parts_of(number: int, to_ten: int) -> list[int]:
    parts = places(number)
    if len(parts) == 1 and 0 < to_ten < number < 10:
        return [to_ten, number - to_ten]
    return parts


def _in_parts(left: int, sign: str, parts: list[int]) -> list[str]:
    """One line that adds or takes away the parts one after another, if there are several."""
    if len(parts) < 2:
        return []
    clauses, value = [], left
    for part in parts:
        after = value + part if sign == "+" else value - part
        clauses.append(f"{value} {sign} {part} = {after}")
        value = after
    return ["; ".join(clauses)]
