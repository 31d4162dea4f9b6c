"""Samples of any size, and the largest size that fits.

A draft is a sample of which everything is drawn but how much filling there is. Its size has a unit of its own: words of an
essay, lines, documents' tokens. Sizes are chosen by estimate, from token counts of the pieces, and then the text is
counted as a whole; the difference corrects the next estimate. One or two counts a sample are enough.
"""

from bisect import bisect_right
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from evals.ruler.tokens import TokenCounter

_TOLERANCE = 2000
"""A text is not grown further once it lacks no more than the budget divided by this."""


class Draft(Protocol):
    """answer_prefix: how the answer begins. answers: what it must hold. answer_text: an answer as a model may write it,
    without the prefix. least, most: the sizes it can have."""

    answer_prefix: str
    answers: tuple[str, ...]
    answer_text: str
    least: int
    most: int

    def tokens(self, size: int) -> int:
        """About how many tokens prompt and answer prefix have; grows with `size`."""

    def render(self, size: int) -> tuple[str, tuple[float, ...]]:
        """The prompt, and the depths as shares of the haystack: one for each answer, one for all, or none."""


@dataclass(frozen=True)
class Fitted:
    prompt: str
    depths: tuple[float, ...]
    tokens: int
    size: int


def fit(drafts: Sequence[Draft], budgets: Sequence[int], counter: TokenCounter) -> list[Fitted | None]:
    """Each draft at the largest size at which prompt, a space and answer prefix have at most `budget` tokens; None where
    the least size has more. The texts of all drafts are counted together, which tokenizers do in parallel."""
    searches = [_search(draft, budget) for draft, budget in zip(drafts, budgets, strict=True)]
    results: list[Fitted | None] = [None] * len(searches)
    texts = {number: next(search) for number, search in enumerate(searches)}
    while texts:
        counts = counter.count(list(texts.values()))
        for number, count in zip(list(texts), counts, strict=True):
            try:
                texts[number] = searches[number].send(count)
            except StopIteration as end:
                results[number] = end.value
                del texts[number]
    return results


def fits(drafts: Sequence[Draft], budgets: Sequence[int], counter: TokenCounter) -> bool:
    """Whether every draft fits at its least size."""
    counts = counter.count([whole(draft, draft.render(draft.least)[0]) for draft in drafts])
    return all(count <= budget for count, budget in zip(counts, budgets, strict=True))


def whole(draft: Draft, prompt: str) -> str:
    """What the model reads before it answers, where no chat template comes between."""
    return f"{prompt} {draft.answer_prefix}"


def _search(draft: Draft, budget: int) -> Generator[str, int, Fitted | None]:
    """Yields a text, is sent its tokens, until the size is found."""
    best: Fitted | None = None
    low, high = draft.least - 1, draft.most + 1  # everything up to low fits, everything from high on does not
    error = 0
    while low + 1 < high:
        size = low + bisect_right(range(low + 1, high), budget - error, key=draft.tokens)
        if size == low:
            if best:
                break
            size = draft.least
        prompt, depths = draft.render(size)
        count = yield whole(draft, prompt)
        error = count - draft.tokens(size)
        if count > budget:
            high = size
        else:
            best, low = Fitted(prompt, depths, count, size), size
            if budget - count <= budget // _TOLERANCE:
                break
    return best
