"""Packing documents into rows of exactly `seq_len` tokens, cutting only those that are longer.

Documents arrive in a stream. One longer than a row fills as many whole rows as it can; what is left of it, like every
shorter document, waits in a window and is placed best-fit decreasing: longest first, each into the row with the least
room that still holds it. With a window of millions of tokens the padding of ordinary text is well below 1%.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PADDING_DOCUMENT = -1
WINDOW_TOKENS = 1 << 22
_WINDOW_MIN_ROWS = 64


@dataclass(frozen=True)
class Row:
    """One training sequence: arrays [seq_len], ids int32, mask int8.

    `document_ids` counts the row's documents 0, 1, 2, ... and is `PADDING_DOCUMENT` on padding, which comes last.
    `loss_mask` is 1 on tokens that are trained as targets; None trains each token that follows another of its document.
    """

    input_ids: NDArray[np.int32]
    document_ids: NDArray[np.int32]
    loss_mask: NDArray[np.int8] | None = None


Piece = tuple[NDArray[np.int32], NDArray[np.int8] | None]
"""Tokens that stay together, and their loss mask."""


@dataclass
class Packer:
    """Turns a stream of tokenized documents into rows, the same rows for the same stream.

    `add` yields rows as they fill up and `flush` the rest. Counters: documents, those cut, tokens, rows.
    """

    seq_len: int
    pad_id: int
    window_tokens: int = WINDOW_TOKENS
    documents: int = 0
    cut_documents: int = 0
    tokens: int = 0
    rows: int = 0
    _pieces: list[Piece] = field(default_factory=list)
    _waiting_tokens: int = 0

    def add(self, document: NDArray[np.int32], loss_mask: NDArray[np.int8] | None = None) -> Iterator[Row]:
        """Takes one document (1-d, not empty) with its loss mask: all documents have one, or none has."""
        self.documents += 1
        self.cut_documents += len(document) > self.seq_len
        self.tokens += len(document)
        whole = len(document) - len(document) % self.seq_len
        for start in range(0, whole, self.seq_len):
            yield self._row([_piece(document, loss_mask, slice(start, start + self.seq_len))])
        if whole < len(document):
            self._pieces.append(_piece(document, loss_mask, slice(whole, None)))
            self._waiting_tokens += len(document) - whole
        if self._waiting_tokens >= max(self.window_tokens, _WINDOW_MIN_ROWS * self.seq_len):
            yield from self.flush()

    def flush(self) -> Iterator[Row]:
        """Rows of all that waits in the window."""
        pieces, self._pieces, self._waiting_tokens = self._pieces, [], 0
        for members in best_fit_decreasing([len(ids) for ids, _ in pieces], self.seq_len):
            yield self._row([pieces[index] for index in members])

    @property
    def fill(self) -> float:
        """Share of the written rows' tokens that are no padding (1.0 when there is no row)."""
        return self.tokens / (self.rows * self.seq_len) if self.rows else 1.0

    def _row(self, pieces: list[Piece]) -> Row:
        input_ids = np.full(self.seq_len, self.pad_id, dtype=np.int32)
        document_ids = np.full(self.seq_len, PADDING_DOCUMENT, dtype=np.int32)
        loss_mask = None if pieces[0][1] is None else np.zeros(self.seq_len, dtype=np.int8)
        start = 0
        for number, (ids, mask) in enumerate(pieces):
            end = start + len(ids)
            input_ids[start:end] = ids
            document_ids[start:end] = number
            if loss_mask is not None and mask is not None:
                loss_mask[start:end] = mask
            start = end
        self.rows += 1
        return Row(input_ids, document_ids, loss_mask)


def _piece(document: NDArray[np.int32], loss_mask: NDArray[np.int8] | None, part: slice) -> Piece:
    return document[part], None if loss_mask is None else loss_mask[part]


def best_fit_decreasing(lengths: list[int], capacity: int) -> list[list[int]]:
    """Bins of indices into `lengths`, no bin above `capacity`, each bin in ascending order of its indices."""
    bins: list[list[int]] = []
    open_bins: list[tuple[int, int]] = []  # (room left, bin), ascending
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        place = bisect_left(open_bins, (lengths[index], -1))
        if place < len(open_bins):
            room, bin_number = open_bins.pop(place)
        else:
            room, bin_number = capacity, len(bins)
            bins.append([])
        bins[bin_number].append(index)
        if room > lengths[index]:
            insort(open_bins, (room - lengths[index], bin_number))
    for members in bins:
        members.sort()
    return bins
