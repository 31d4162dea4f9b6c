"""What a user wants of the desk (evals/environments/desk), and how a flawless assistant does it.

The goal is stated twice, and independently: `script` reaches it through tool calls, `apply` by editing the rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings

Call = tuple[str, dict[str, str]]
Desk = dict[str, list[list[str]]]
"""The rows of each table, the state of a grader."""


@dataclass(frozen=True)
class Act:
    """An assistant turn that calls tools; the script gets the list of their answers."""

    reasoning: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Report:
    """The assistant's last turn."""

    reasoning: str
    content: str


Script = Generator[Act, list[str], Report]

_IDS = ("bear", "bee", "cat", "duck", "fox", "frog", "goat", "hen", "owl", "wolf")
"""Words, since digits as ids were always the same digit in what a small model said (docs/log.md)."""

DONE = Report("It is done.", "Done.")
UNCHANGED = "No change."


def act(reasoning: str, *calls: Call) -> Act:
    return Act(reasoning, calls)


def find(text: str) -> Call:
    return "find", {"text": text}


class Errand(ABC):
    """One wish. Subclasses are frozen dataclasses of its parameters, which may be put into the wordings by name."""

    wordings: ClassVar[Wordings]
    tools: ClassVar[tuple[str, ...]]
    """What the assistant is given."""

    hidden: ClassVar[tuple[str, ...]] = ()
    """Parameters that the user does not say."""

    @classmethod
    @abstractmethod
    def draw(cls, dice: Dice) -> Self:
        """A random wish."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What it looks for: no other row may contain one of these."""

    def prepare(self, desk: Desk, dice: Dice) -> None:  # noqa: B027
        """Put on the desk what the wish is about."""

    @abstractmethod
    def script(self) -> Script:
        """The turns of an assistant who makes no mistake."""

    @abstractmethod
    def apply(self, desk: Desk) -> None:
        """Change the rows as the wish wants it."""

    @property
    def parameters(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]

    @property
    def content(self) -> Any:
        return [type(self).__name__, *self.parameters.values()]

    @property
    def said(self) -> Any:
        """What any wording says of it."""
        values = [value for key, value in self.parameters.items() if key not in self.hidden]
        return [type(self).__name__, *values]


def put(desk: Desk, table: str, dice: Dice, *values: str) -> None:
    """Add a row at a random place in its table, under an id that no row has."""
    taken = {row[0] for rows in desk.values() for row in rows}
    key = dice.choice([word for word in _IDS if word not in taken])
    rows = desk[table]
    rows.insert(dice.below(len(rows) + 1), [key, *values])


def append(desk: Desk, table: str, *values: str) -> None:
    """Add a row as a tool does, last. Its id, which is not compared, is one that no row has."""
    desk[table].append(["new", *values])


def row_with(desk: Desk, table: str, *values: str) -> list[str]:
    """The one row that has all these values."""
    (row,) = (row for row in desk[table] if set(values) <= set(row))
    return row


def found_in(answer: str) -> list[list[str]]:
    """The rows that `find` shows, in words: the id first."""
    return [row.split() for row in answer.split("; ")]
