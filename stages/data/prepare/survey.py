"""First reading of the corpus: what becomes of each document.

Every document is hashed (and sketched by MinHash) in worker processes; what is kept of it is about a hundred bytes,
and its signature in a file. Then the held-out documents are chosen, and of the documents that are alike the first
is kept, validation documents before all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.common.data.documents import read_documents
from stages.common.data.parallel import parallel_map
from stages.common.data.sources import Source
from stages.common.reporter import ProgressBar
from stages.data.prepare.minhash import MinHash, earlier_likeness, normalize

BATCH_CHARACTERS = 1_000_000
BATCH_DOCUMENTS = 512


class Fate(IntEnum):
    """What becomes of a document."""

    TRAIN = 0
    VALIDATE = 1
    EMPTY = 2
    EXACT_DUPLICATE = 3
    NEAR_DUPLICATE = 4
    LIKE_VALIDATION = 5

    @property
    def label(self) -> str:
        """As in a sentence: "3 near duplicate"."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Batch:
    """Consecutive documents of one source; `first` counts documents over all sources."""

    source: int
    first: int
    texts: list[str]


@dataclass(frozen=True)
class _Sketch:
    """What is kept in memory of a batch."""

    source: int
    digests: NDArray[np.uint64]  # [documents, 2]; zeros for an empty document
    has_words: NDArray[np.bool_]  # [documents]; those with a signature


def read_batches(sources: Sequence[Source], text_field: str, bar: ProgressBar) -> Iterator[Batch]:
    """All documents of all sources in order, in batches for a worker."""
    first = 0
    for number, source in enumerate(sources):
        texts: list[str] = []
        characters = 0
        for file in source.files:
            for document in read_documents(file, text_field):
                texts.append(document.text)
                characters += len(document.text)
                if characters >= BATCH_CHARACTERS or len(texts) == BATCH_DOCUMENTS:
                    yield Batch(number, first, texts)
                    bar.update(characters)
                    first += len(texts)
                    texts, characters = [], 0
        if texts:
            yield Batch(number, first, texts)
            bar.update(characters)
            first += len(texts)


@dataclass(frozen=True)
class Survey:
    """`fates` [documents] of `Fate` and `source` [documents] number of each document's source, in reading order."""

    fates: NDArray[np.uint8]
    source: NDArray[np.int32]

    def count(self, source: int, fate: Fate) -> int:
        """Documents of a source that meet this fate."""
        return int(((self.source == source) & (self.fates == fate)).sum())


@dataclass(frozen=True)
class DuplicateRules:
    """What counts as a duplicate: `exact` and, if `sketch` is given, similarity from `similarity` on."""

    exact: bool
    sketch: MinHash | None
    similarity: float


def survey_corpus(
    sources: Sequence[Source],
    *,
    validation_source: int | None,
    validation_fraction: float,
    rules: DuplicateRules,
    seed: int,
    text_field: str,
    workers: int,
    scratch: Path,
    bar: ProgressBar,
) -> Survey:
    """Reads all documents once and decides the fate of each.

    Args:
        sources: the corpus, with the validation source among them if there is one.
        validation_source: number of the source that is the validation set, or None: then `validation_fraction` of
            each other source's documents are held out, those with the smallest seeded hash of their text.
        rules: what is a duplicate.
        seed: of the choice of held-out documents.
        text_field: see `read_documents`.
        workers: processes; the result does not depend on it.
        scratch: path of a file for the signatures, written and left behind.
        bar: advanced by characters read.
    """
    batches = read_batches(sources, text_field, bar)
    with scratch.open("wb") as signature_file:
        parts = []
        for sketch, signatures in parallel_map(partial(_sketcher, rules.sketch), batches, workers):
            parts.append(sketch)
            signature_file.write(signatures.tobytes())
    source = np.repeat(
        np.array([part.source for part in parts], np.int32), [len(part.digests) for part in parts]
    )
    digests = np.concatenate([np.zeros((0, 2), np.uint64), *(part.digests for part in parts)])
    has_words = np.concatenate([np.zeros(0, np.bool_), *(part.has_words for part in parts)])

    fates = np.full(len(source), Fate.TRAIN, dtype=np.uint8)
    fates[(digests == 0).all(axis=1)] = Fate.EMPTY
    if validation_source is not None:
        fates[(source == validation_source) & (fates == Fate.TRAIN)] = Fate.VALIDATE
    else:
        fates[_held_out(digests, source, fates, validation_fraction, seed)] = Fate.VALIDATE
    if rules.exact:
        _mark_exact(fates, digests)
    if rules.sketch is not None and has_words.any():
        shape = (int(has_words.sum()), rules.sketch.permutations)
        _mark_near(fates, np.memmap(scratch, np.uint32, "r", shape=shape), has_words, rules.similarity)
    return Survey(fates, source)


def _sketcher(minhash: MinHash | None) -> Callable[[Batch], tuple[_Sketch, NDArray[np.uint32]]]:
    return partial(_sketch, minhash)


def _sketch(minhash: MinHash | None, batch: Batch) -> tuple[_Sketch, NDArray[np.uint32]]:
    """The sketch, and the signatures [documents with words, permutations]."""
    digests = np.zeros((len(batch.texts), 2), dtype=np.uint64)
    has_words = np.zeros(len(batch.texts), dtype=np.bool_)
    signatures = []
    for index, text in enumerate(batch.texts):
        normalized = normalize(text)
        if not normalized:
            continue
        digests[index] = np.frombuffer(
            hashlib.blake2b(normalized.encode(), digest_size=16).digest(), np.uint64
        )
        signature = minhash.signature(normalized) if minhash else None
        if signature is not None:
            has_words[index] = True
            signatures.append(signature)
    stacked = np.stack(signatures) if signatures else np.zeros((0, 0), np.uint32)
    return _Sketch(batch.source, digests, has_words), stacked


def _held_out(
    digests: NDArray[np.uint64],
    source: NDArray[np.int32],
    fates: NDArray[np.uint8],
    fraction: float,
    seed: int,
) -> NDArray[np.int64]:
    """Documents to hold out: of each source its share, but never all of it; at least one of a corpus of several."""
    mask = np.random.Philox(key=seed).random_raw(1)[0]
    keys = (digests[:, 0] ^ mask) * np.uint64(0x9E3779B97F4A7C15)
    candidates = np.flatnonzero(fates == Fate.TRAIN)
    if fraction == 0 or len(candidates) < 2:
        return np.zeros(0, np.int64)
    chosen = []
    for number in np.unique(source[candidates]):
        own = candidates[source[candidates] == number]
        wanted = min(round(fraction * len(own)), len(own) - 1)
        chosen.append(own[np.argsort(keys[own], kind="stable")[:wanted]])
    if not any(map(len, chosen)):
        sizes = np.bincount(source[candidates])
        own = candidates[source[candidates] == int(np.argmax(sizes))]
        return own[[int(np.argmin(keys[own]))]] if len(own) > 1 else np.zeros(0, np.int64)
    return np.concatenate(chosen)


def _by_precedence(fates: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Documents still in play, validation first, each kind in reading order."""
    return np.concatenate([np.flatnonzero(fates == Fate.VALIDATE), np.flatnonzero(fates == Fate.TRAIN)])


def _mark_exact(fates: NDArray[np.uint8], digests: NDArray[np.uint64]) -> None:
    order = _by_precedence(fates)
    own = digests[order]
    by_digest = np.lexsort((np.arange(len(order)), own[:, 1], own[:, 0]))
    group_start = np.concatenate([[True], (own[by_digest][1:] != own[by_digest][:-1]).any(axis=1)])
    first = by_digest[np.maximum.accumulate(np.where(group_start, np.arange(len(order)), 0))]
    _mark(fates, order[first[~group_start]], order[by_digest[~group_start]], Fate.EXACT_DUPLICATE)


def _mark_near(
    fates: NDArray[np.uint8], signatures: NDArray[np.uint32], has_words: NDArray[np.bool_], similarity: float
) -> None:
    order = _by_precedence(fates)
    order = order[has_words[order]]
    row_of = np.cumsum(has_words) - 1
    earlier = earlier_likeness(signatures, row_of[order], similarity)
    found = np.flatnonzero(earlier >= 0)
    _mark(fates, order[earlier[found]], order[found], Fate.NEAR_DUPLICATE)


def _mark(
    fates: NDArray[np.uint8], originals: NDArray[np.int64], copies: NDArray[np.int64], fate: Fate
) -> None:
    leaks = (fates[originals] == Fate.VALIDATE) & (fates[copies] == Fate.TRAIN)
    fates[copies] = np.where(leaks, Fate.LIKE_VALIDATION, fate)
