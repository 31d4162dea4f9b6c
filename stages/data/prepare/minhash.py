"""MinHash signatures of documents, and the pairs of documents that LSH bands and signatures call alike.

Broder, "On the resemblance and containment of documents" (1997): a random function's minimum over the shingles of two
documents agrees with the probability of their Jaccard similarity. Bands of a signature find candidates; the share of
the whole signature that agrees decides.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stages.common.data.words import mix, run_hashes, words_of

_SHINGLES_AT_ONCE = 4096
_NEIGHBOURS = 8
_RECALL = 0.95


def normalize(text: str) -> str:
    """Text as it counts for duplicates: canonical characters, each run of white space one blank, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass(frozen=True)
class MinHash:
    """Signatures of `permutations` uint32 over shingles of `shingle_words` words, letter case ignored."""

    permutations: int
    shingle_words: int

    def signature(self, normalized: str) -> NDArray[np.uint32] | None:
        """The signature of a normalized text, or None if it has no words. A short text is a single shingle."""
        words = words_of(normalized)
        if not words:
            return None
        shingles = np.unique(run_hashes(words, min(self.shingle_words, len(words))))
        factors, offsets = _hash_family(self.permutations)
        smallest = np.full(self.permutations, np.iinfo(np.uint64).max, dtype=np.uint64)
        for start in range(0, len(shingles), _SHINGLES_AT_ONCE):
            part = shingles[start : start + _SHINGLES_AT_ONCE, None]
            np.minimum(smallest, (part * factors + offsets).min(axis=0), out=smallest)
        return (smallest >> np.uint64(32)).astype(np.uint32)


@lru_cache(maxsize=4)
def _hash_family(permutations: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Factors (odd) and offsets of x -> (a x + b) mod 2^64, of which the upper 32 bits are used."""
    bits = np.random.Philox(key=0).random_raw(2 * permutations)
    return bits[:permutations] | np.uint64(1), bits[permutations:]


def band_rows(permutations: int, similarity: float) -> int:
    """Rows of a band: as many as still let documents of just this similarity meet with a chance of 95%."""
    chances = {
        rows: 1 - (1 - similarity**rows) ** (permutations // rows) for rows in range(1, permutations + 1)
    }
    return max((rows for rows, chance in chances.items() if chance >= _RECALL), default=1)


def earlier_likeness(
    signatures: NDArray[np.uint32], order: NDArray[np.int64], similarity: float
) -> NDArray[np.int64]:
    """For each place in `order` the first earlier place found whose document is as similar as `similarity`, or -1.

    Documents that agree in a band lie together when the band is sorted; each is compared with the eight before it
    and with the first of its group, so that time and memory stay linear in the number of documents.

    Args:
        signatures: [documents, permutations]; may be a memory map, of which no more than a band is in memory.
        order: rows of `signatures` in their order of precedence.
        similarity: Jaccard similarity, 0 to 1.
    """
    permutations = signatures.shape[1]
    rows = band_rows(permutations, similarity)
    earlier = np.full(len(order), -1, dtype=np.int64)
    for start in range(0, permutations - rows + 1, rows):
        keys = _band_keys(signatures[order, start : start + rows])
        by_key = np.argsort(keys, kind="stable")
        for first, second in _neighbours(keys[by_key], by_key):
            alike = _similarity(signatures, order[first], order[second]) >= similarity
            first, second = first[alike], second[alike]
            known = earlier[second]
            earlier[second] = np.where((known < 0) | (first < known), first, known)
    return earlier


def _band_keys(band: NDArray[np.uint32]) -> NDArray[np.uint64]:
    keys = np.zeros(len(band), dtype=np.uint64)
    for column in range(band.shape[1]):
        keys = mix(keys, band[:, column].astype(np.uint64))
    return keys


def _neighbours(
    sorted_keys: NDArray[np.uint64], by_key: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (earlier, later) of places with equal keys; in one pair of arrays a later place appears once."""
    starts_group = np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])
    group_start = np.maximum.accumulate(np.where(starts_group, np.arange(len(by_key)), 0))
    position = np.arange(len(by_key))
    for distance in range(1, _NEIGHBOURS + 1):
        later = position[position - group_start >= distance]
        if len(later):
            yield by_key[later - distance], by_key[later]
    later = position[position - group_start > _NEIGHBOURS]
    if len(later):
        yield by_key[group_start[later]], by_key[later]


def _similarity(
    signatures: NDArray[np.uint32], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of pairs, computed some thousands of pairs at a time."""
    step = 4096
    parts = [
        (signatures[first[at : at + step]] == signatures[second[at : at + step]]).mean(axis=1)
        for at in range(0, len(first), step)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)
