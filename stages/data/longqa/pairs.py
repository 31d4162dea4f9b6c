"""A question with its answer, the passage it is written from, and whoever writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from stages.data.longqa.pieces import Piece


@dataclass(frozen=True)
class Passage:
    """A sampled chunk of a document."""

    piece: Piece
    chunk: int

    @property
    def text(self) -> str:
        return self.piece.chunk(self.chunk)


@dataclass(frozen=True)
class Pair:
    """`kind` is what sort of question it is: one of the rules', or `written` where a model wrote it."""

    question: str
    answer: str
    kind: str


@dataclass(frozen=True)
class NoPair:
    """A chunk that got no pair, and why: a few words, the same for the same cause, so that they can be counted."""

    reason: str


class PairWriter(Protocol):
    name: str

    def write(self, passages: Iterable[Passage]) -> Iterator[Pair | NoPair]:
        """The pair of each passage, in order. Passages are taken as they are needed, some ahead.

        Raises InterruptedRunError, with all that was obtained kept, when the run is to stop.
        """
