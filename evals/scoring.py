"""Log-likelihoods of continuations, each pair scored once and kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evals.callbacks import Bar, Callbacks
from evals.remembered import Remembered
from evals.response_cache import tokens_key
from model.errors import ArtifactError
from model.hybrid import HybridLM
from model.inference.scoring import score_continuations

_BATCHES_AT_A_TIME = 4
"""Batches that are kept, or lost to an interruption, together. What is scored together does not depend on what was kept
before, so that an evaluation that goes on gives the same bits."""

_SCORE_OF_NOTHING = (0.0, True)
"""A continuation without tokens."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Scorer:
    """max_length: tokens of context and continuation together; what is longer loses its beginning. batch_tokens: tokens
    that are read at a time."""

    lm: HybridLM
    max_length: int
    batch_tokens: int
    remembered: Remembered
    callbacks: Callbacks

    def scores(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        """For the tokens of each (context, continuation) the continuation's log-probability in nats, and whether greedy
        decoding would give it. ArtifactError for a continuation that is longer than `max_length`."""
        pairs = [self._fitted(context, continuation) for context, continuation in requests]
        self._warn_of_longer(requests)
        keys = [
            self.remembered.key(kind="loglikelihood", context=tokens_key(context), continuation=continuation)
            for context, continuation in pairs
        ]
        scored = [index for index, (_, continuation) in enumerate(pairs) if continuation]
        found = self.remembered.found(keys[index] for index in scored)
        with self.callbacks.progress("scoring", len(scored), "request") as bar:
            for portion in self._portions(pairs, scored):
                missing = {keys[index]: pairs[index] for index in portion if keys[index] not in found}
                bar.update(len(portion) - len(missing))
                if missing:
                    scores = dict(zip(missing, self._scored(list(missing.values()), bar), strict=True))
                    self.remembered.put(scores)
                    found |= scores
        return [
            (found[key][0], found[key][1]) if continuation else _SCORE_OF_NOTHING
            for key, (_, continuation) in zip(keys, pairs, strict=True)
        ]

    def _fitted(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[Tokens, Tokens]:
        """Context and continuation without what is too much at the beginning; the last token is only predicted."""
        if len(continuation) > self.max_length:
            raise ArtifactError(
                f"a continuation to be scored has {len(continuation)} tokens, the model reads {self.max_length}",
                where="task data",
                remedy="give a larger --max-length",
            )
        kept = self.max_length + 1 - len(continuation)
        return tuple(context[-kept:]), tuple(continuation)

    def _warn_of_longer(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
        longer = sum(
            len(context) + len(continuation) > self.max_length + 1 for context, continuation in requests
        )
        if longer:
            self.callbacks.warn(
                f"{longer} of {len(requests)} requests are longer than {self.max_length} tokens and lost their beginning"
            )

    def _portions(self, pairs: Sequence[tuple[Tokens, Tokens]], scored: Sequence[int]) -> Iterator[list[int]]:
        """Requests that are scored and kept together: those of one context, and those of nearly its length."""
        portion: list[int] = []
        size = 0
        for index in sorted(scored, key=lambda index: (-len(pairs[index][0]), pairs[index], index)):
            length = sum(map(len, pairs[index]))
            if (
                portion
                and size + length > _BATCHES_AT_A_TIME * self.batch_tokens
                and pairs[index][0] != pairs[portion[-1]][0]
            ):
                yield portion
                portion, size = [], 0
            portion.append(index)
            size += length
        if portion:
            yield portion

    def _scored(self, pairs: Sequence[tuple[Tokens, Tokens]], bar: Bar) -> list[tuple[float, bool]]:
        def on_scored(count: int) -> None:
            bar.update(count)
            self.callbacks.check()

        scores = score_continuations(self.lm, pairs, batch_tokens=self.batch_tokens, on_scored=on_scored)
        return [(score.logprob, score.greedy) for score in scores]
