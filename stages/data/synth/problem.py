"""What a family of problems is, and what becomes of one problem: a row of chat jsonl.

Problem, wording and split are three things. A *problem* is its parameters (the numbers of a sum). Its *split*
is a function of those parameters alone, so no seed or size can put one problem into two splits. A *wording*
is how it is put into words; some wordings are held out and never used in train.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal

from stages.data.synth.config import Kind
from stages.data.synth.dice import Dice

Trace = Literal["short", "long", "checked"]
"""How much a reasoning trace says: one line a step; every step worked out; worked out, then verified again."""

_SHARES = 10  # of these, one is dev and one is test


class Split(StrEnum):
    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


FLAWED = "flawed"
"""In the metadata of a row whose demonstration fails, and is meant to."""


@dataclass(frozen=True)
class Style:
    """How a problem is written down: everything that is not the problem itself.

    held_out: use the wordings that train never uses.
    error_rate: of the scripted assistant in tool dialogues, for each call.
    flawed: the assistant at the desk does nothing and says that it is done.
    """

    trace: Trace = "short"
    held_out: bool = False
    error_rate: float = 0.0
    flawed: bool = False


@dataclass(frozen=True)
class Sample:
    """A problem written down. The last message is the reference answer, with its `reasoning_content`.

    trained_from: position of the first message that is worth imitating; what comes before holds a slip.
    """

    messages: list[dict[str, Any]]
    grader: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] = field(default_factory=list)
    trained_from: int = 0


class Problem(ABC):
    """One problem of a family."""

    @property
    @abstractmethod
    def content(self) -> Any:
        """The parameters, as JSON: what distinguishes this problem from any other of its family."""

    @property
    def essence(self) -> Any:
        """The parameters less what does not matter (the order of a sum's terms): problems that share it share
        the split."""
        return self.content

    @abstractmethod
    def write(self, dice: Dice, style: Style) -> Sample | None:
        """The problem in words with its reference answer, or None if the attempt at one failed and is not to be
        kept (tool dialogues)."""


@dataclass(frozen=True)
class Family:
    """Problems of one sort. `draw(level, dice)` gives a random one; levels run from 1 to `max_level`.

    max_level None: any level. `prefix` is the first part of a row's id.
    """

    name: str
    kind: Kind
    draw: Callable[[int, Dice], Problem]
    max_level: int | None = None

    def identity(self, problem: Problem) -> int:
        """A number of 64 bits that names the problem among those of the family."""
        return _fingerprint("problem", self.name, problem.content)

    def split(self, problem: Problem) -> Split:
        """The one split in which the problem may appear, whatever the seed."""
        return split_of(self.name, problem.essence)


def split_of(family: str, essence: Any) -> Split:
    """The split of all problems of a family that share an essence: a tenth of them each are dev and test."""
    share = _fingerprint("split", family, essence) % _SHARES
    return {0: Split.DEV, 1: Split.TEST}.get(share, Split.TRAIN)


@dataclass(frozen=True)
class Wordings:
    """Ways to put one thing: `trained` may be used anywhere, `held_out` in dev and test only."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]

    def pick(self, dice: Dice, held_out: bool) -> tuple[str, str]:
        """The name of a wording ("3", held out "h1") and its text."""
        texts = self.held_out if held_out else self.trained
        number = dice.below(len(texts))
        return ("h" if held_out else "") + str(number), texts[number]


def assistant(content: str, reasoning: str) -> dict[str, Any]:
    """The message of an assistant who thinks before the answer."""
    return {"role": "assistant", "content": content, "reasoning_content": reasoning}


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def row(
    family: Family, identity: int, sample: Sample, *, thinking: bool, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The line of chat jsonl: `messages`, or, where something is not to be imitated, `prompt` and `completion`.

    Without `thinking` no turn shows its reasoning and the row says so.
    """
    messages = sample.messages
    if not thinking:
        messages = [
            {key: value for key, value in item.items() if key != "reasoning_content"} for item in messages
        ]
    line: dict[str, Any] = {"id": f"{family.name}-{identity:016x}"}
    if sample.trained_from:
        line |= {"prompt": messages[: sample.trained_from], "completion": messages[sample.trained_from :]}
    else:
        line["messages"] = messages
    if sample.tools:
        line["tools"] = sample.tools
    metadata = {"kind": family.kind, "family": family.name, **facts, **sample.metadata}
    return {**line, "thinking": thinking, "grader": sample.grader, "metadata": metadata}


def _fingerprint(*content: Any) -> int:
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=True)
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")
