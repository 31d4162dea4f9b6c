"""What a checkable demand of an instruction prompt is."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings

Kwargs = dict[str, Any]


@dataclass(frozen=True)
class Demand:
    """One kind of demand.

    draw(dice, level) gives its kwargs. account(kwargs, answer) says in the reasoning what is asked and how the answer
    meets it. Two demands go together if neither is in the other's `slots` by name or shares a slot with it.
    """

    name: str
    id: str
    family: str
    wordings: Wordings
    draw: Callable[[Dice, int], Kwargs]
    account: Callable[[Kwargs, str], str]
    slots: frozenset[str] = field(default_factory=frozenset)
    easy: bool = False


def compatible(first: Demand, second: Demand) -> bool:
    """Whether one answer can meet both."""
    return (
        first.name != second.name
        and not first.slots & second.slots
        and first.name not in second.slots
        and second.name not in first.slots
    )


def words_in(text: str) -> int:
    return len(re.findall(r"\w+", text))


def sentences_in(text: str) -> int:
    """Sentences of a text from `compose`: each ends in a mark at the end of a word, and marks mean nothing else."""
    return len(re.findall(r"[.?]\*?(?=[\s\"]|$)", text))


def capitals_in(text: str) -> int:
    return sum(word.isupper() for word in re.findall(r"\w+", text))
