"""Words of a text, and hashes of runs of words, by which texts are compared."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]|\w+"
)  # scripts without spaces: a character is a word
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def words_of(text: str) -> list[str]:
    """The words in their order, letter case folded, without punctuation."""
    return _WORD.findall(text.casefold())


def run_hashes(words: Sequence[str], width: int) -> NDArray[np.uint64]:
    """A hash of each run of `width` words, in order; none where there are fewer words."""
    values = np.array([_word_hash(word) for word in words], dtype=np.uint64)
    hashes = np.zeros(max(len(values) - width + 1, 0), dtype=np.uint64)
    for offset in range(width):
        hashes = mix(hashes, values[offset : offset + len(hashes)])
    return hashes


def mix(hashes: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes of the same sequences with one value more."""
    mixed = (hashes + values) * _MULTIPLIER
    return mixed ^ (mixed >> np.uint64(29))


@lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
