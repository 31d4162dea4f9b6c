"""What a user wants of a service, and how a flawless assistant would do it.

The goal is stated twice, and independently: `script` reaches it through tool calls, `apply` by editing a state. Only
where both come to the same state is a dialogue kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.tools.service import State

Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Act:
    """An assistant turn that calls tools; the script gets the list of results.

    decisive: what went before leaves just these calls, so a row may end here and be graded by them.
    """

    reasoning: str
    calls: tuple[Call, ...]
    decisive: bool = False


@dataclass(frozen=True)
class Ask:
    """An assistant turn that asks the user, and what the user answers; the script gets nothing."""

    reasoning: str
    question: str
    reply: str


@dataclass(frozen=True)
class Report:
    """The assistant's last turn in an errand. `facts` are texts that have to be in it, as the assistant found them."""

    reasoning: str
    content: str
    facts: tuple[str, ...] = ()


Script = Generator[Act | Ask, Any, Report]


def act(reasoning: str, *calls: Call, decisive: bool = False) -> Act:
    return Act(reasoning, calls, decisive)


@dataclass(frozen=True)
class Vague:
    """The wish with something left out, the question that this calls for, and the user's answer."""

    wordings: Wordings
    question: str
    reply: str


def vague(trained: str, held_out: str, question: str, reply: str) -> Vague:
    return Vague(Wordings((trained,), (held_out,)), question, reply)


def expect_refusal(result: Any, words: str) -> None:
    """ValueError unless a tool refused a call for the reason that the script counts on."""
    if words not in result["error"]:
        raise ValueError(f"refused for another reason: {result['error']}")


class Errand(ABC):
    """One wish. Subclasses are frozen dataclasses of its parameters, which may be put into the wordings by name."""

    wordings: ClassVar[Wordings]
    vague: ClassVar[Vague | None] = None
    aim: ClassVar[str]
    """What the user wants, in a word or two, for longer reasoning."""

    @classmethod
    @abstractmethod
    def draw(cls, dice: Dice) -> Self:
        """A random wish."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Things and people it is about: two errands of a dialogue must not share one."""

    @property
    def subject(self) -> str:
        """The thing that the user names in any wording, which decides the split."""
        return self.names[0]

    @abstractmethod
    def prepare(self, state: State, dice: Dice) -> None:
        """Put into the state what the wish is about."""

    @abstractmethod
    def script(self) -> Script:
        """The calls of an assistant who makes no mistake."""

    def apply(self, state: State) -> None:  # noqa: B027
        """Change a state as the wish wants it. Questions change nothing."""

    @abstractmethod
    def facts(self) -> tuple[str, ...]:
        """What the report has to say."""

    @property
    def parameters(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]

    @property
    def content(self) -> Any:
        return [type(self).__name__, *self.parameters.values()]


def number_in(state: State, key: str, prefix: str, dice: Dice) -> str:
    """An id such as `B42` that no entry of the state's table `key` has."""
    while True:
        identifier = f"{prefix}{dice.integer(10, 99)}"
        if identifier not in state[key]:
            return identifier
