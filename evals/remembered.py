"""What is asked of a model twice is computed once; with a `ResponseCache` also if the first time was in another process."""

from collections.abc import Iterable, Mapping
from typing import Any

from evals.response_cache import ResponseCache, content_key


class Remembered:
    """A model's answers and scores by keys of what was asked.

    identity: whatever decides an answer and is not in the request, such as the content hash of the model. cache: where they
    are kept; None: in this process.
    """

    def __init__(self, identity: str, cache: ResponseCache | None = None) -> None:
        self._identity = identity
        self._values: ResponseCache | _Memory = _Memory() if cache is None else cache

    def key(self, **asked: Any) -> str:
        """The key of anything that JSON can say."""
        return content_key({"model": self._identity, **asked})

    def found(self, keys: Iterable[str]) -> dict[str, Any]:
        """What is known already."""
        return {key: value for key in dict.fromkeys(keys) if (value := self._values.get(key)) is not None}

    def put(self, values: Mapping[str, Any]) -> None:
        """Add values, which JSON can say."""
        self._values.put(values)


class _Memory(dict[str, Any]):
    def put(self, values: Mapping[str, Any]) -> None:
        self.update(values)
