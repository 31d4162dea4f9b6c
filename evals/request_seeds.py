"""The seeds of sampled answers."""

from collections import Counter
from typing import Any

from evals.response_cache import content_key, content_text, tokens_key
from model.seeds import seed64


class RequestSeeds:
    """A seed depends on `base`, on the prompt, and on how often the same was asked before."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._asked: Counter[str] = Counter()

    def next(self, prompt: tuple[int, ...], *asked: Any) -> int:
        """asked: what else makes two requests the same."""
        same = content_key([tokens_key(prompt), *asked])
        number = self._asked[same]
        self._asked[same] += 1
        return seed64(content_text([self._base, number, tokens_key(prompt)]))
