"""What the writers that ask a language model have in common: the prompt, the kept pairs, the patience."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import NoReturn

from model.errors import ArtifactError, InterruptedRunError
from stages.data.longqa.kept_pairs import KeptPairs
from stages.data.longqa.pairs import NoPair, Pair, Passage
from stages.data.longqa.wording import PROMPT

_FEW = 20


def prompt_of(passage: Passage) -> str:
    return PROMPT.format(excerpt=passage.text)


def key_of(passage: Passage) -> str:
    """By what a pair is found again: the chunk and its document, not their place."""
    return hashlib.sha256(
        f"{passage.piece.digest} {passage.chunk}\n{prompt_of(passage)}".encode()
    ).hexdigest()


class Patience:
    """Counts chunks that got no pair, and ends the run when they are more than `max_share` of all.

    It ends when no good rest could be expected any more: once more than that share of twenty has failed.
    """

    def __init__(self, max_share: float, *, where: str) -> None:
        self._max_share = max_share
        self._where = where
        self._done = 0
        self._failures: Counter[str] = Counter()

    def count(self, outcome: Pair | NoPair) -> None:
        """Raises ArtifactError when there are too many."""
        self._done += 1
        if isinstance(outcome, NoPair):
            self._failures[outcome.reason] += 1
            if self._failures.total() > self._max_share * max(self._done, _FEW):
                self._give_up()

    def finish(self) -> None:
        """Raises ArtifactError if there were too many after all."""
        if self._failures.total() > self._max_share * self._done:
            self._give_up()

    def _give_up(self) -> NoReturn:
        reasons = "; ".join(
            f"{reason} ({count} times)" if count > 1 else reason
            for reason, count in self._failures.most_common(3)
        )
        raise ArtifactError(
            f"{self._failures.total()} of the first {self._done} chunks got no usable pair: {reasons}",
            where=self._where,
            remedy="see to the cause and run the same command again, which keeps the pairs it has; "
            "or allow more with --max-failed-share",
        )


def interrupted(kept: KeptPairs) -> InterruptedRunError:
    return InterruptedRunError(
        "interrupted", where=f"{len(kept)} pairs kept", remedy="run the same command to continue"
    )
