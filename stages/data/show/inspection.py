"""What `nano2 data show` looks at: rows of tokens with their documents, and lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import ArtifactError, UsageError
from stages.common.data.documents import read_documents
from stages.common.data.packed_dataset import PackedDataset, PackedRows
from stages.common.data.packing import PADDING_DOCUMENT
from stages.common.data.sources import Source
from stages.common.data.text_tokenizer import TextTokenizer

VALIDATION = "validation"
MEASURED_TOKENS = 1 << 24
MEASURED_DOCUMENTS = 1_000


@dataclass(frozen=True)
class ShownRow:
    """Tokens to show: ids, document ids and loss mask, all [tokens]; and why training would refuse them."""

    source: str
    number: int
    input_ids: NDArray[np.int32]
    document_ids: NDArray[np.int32]
    loss_mask: NDArray[np.int8] | None = None
    place: str = ""
    problem: ArtifactError | None = None

    @property
    def title(self) -> str:
        return self.place or f"{self.source} {self.number}"

    @property
    def in_loss(self) -> NDArray[np.bool_]:
        """Whether each token is a target: it follows another of its document in the row, and the mask trains it."""
        follows = np.zeros(len(self.document_ids), dtype=np.bool_)
        follows[1:] = self.document_ids[1:] == self.document_ids[:-1]
        follows &= self.document_ids != PADDING_DOCUMENT
        return follows if self.loss_mask is None else follows & (self.loss_mask == 1)


@dataclass(frozen=True)
class Shown:
    """Rows to show, and the tokens of each document (or part of one) that was measured."""

    rows: list[ShownRow]
    lengths: NDArray[np.int64]


def look_at_dataset(dataset: PackedDataset, source: str | None, rows: int) -> Shown:
    """The first `rows` rows of each source (or of the named one) and the lengths in the first `MEASURED_TOKENS`.

    Raises UsageError for a source that is not there.
    """
    splits = dict(dataset.sources)
    if dataset.validation is not None:
        splits[VALIDATION] = dataset.validation
    if source is not None:
        if source not in splits:
            raise UsageError(
                f"there is no source {source!r}",
                where=str(dataset.directory),
                remedy=f"choose among {', '.join(splits)}",
            )
        splits = {source: splits[source]}
    shown = [
        ShownRow(name, number, row.input_ids, row.document_ids, row.loss_mask)
        for name, split in splits.items()
        for number in range(min(rows, len(split)))
        for row in (split[number],)
    ]
    lengths = [length for split in splits.values() for length in _piece_lengths(split)]
    return Shown(shown, np.array(lengths, dtype=np.int64))


def _piece_lengths(split: PackedRows) -> Iterator[int]:
    for number in range(min(len(split), max(MEASURED_TOKENS // split.seq_len, 1))):
        ids = split[number].document_ids
        yield from np.bincount(ids[ids != PADDING_DOCUMENT]).tolist()


def look_at_text(sources: Sequence[Source], tokenizer: TextTokenizer, text_field: str, rows: int) -> Shown:
    """The first `rows` documents of each source as one row each, and the lengths of the first `MEASURED_DOCUMENTS`."""
    shown: list[ShownRow] = []
    lengths: list[int] = []
    for source in sources:
        documents = (document for file in source.files for document in read_documents(file, text_field))
        for number, document in enumerate(islice(documents, MEASURED_DOCUMENTS)):
            [ids] = tokenizer.encode_documents([document.text])
            lengths.append(len(ids))
            if number < rows:
                shown.append(ShownRow(source.name, number, ids, np.zeros(len(ids), np.int32)))
    return Shown(shown, np.array(lengths, dtype=np.int64))


def histogram(lengths: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(from, to, documents) by powers of two, `to` included; without the empty ends."""
    if not len(lengths):
        return []
    exponents = np.ceil(np.log2(np.maximum(lengths, 1))).astype(int)
    counts = np.bincount(exponents)
    first = int(exponents.min())
    return [
        (2 ** (exponent - 1) + 1 if exponent else 1, 2**exponent, int(counts[exponent]))
        for exponent in range(first, len(counts))
    ]


def tokenizer_directory(path: Path, tokenizer: Path | None, model: Path | None, *, is_dataset: bool) -> Path:
    """Where the tokenizer is: in the dataset, or as given for text and chats (UsageError otherwise)."""
    given = tokenizer or model
    if is_dataset:
        if given is not None:
            raise UsageError(
                "a packed dataset has its own tokenizer",
                where=str(path),
                remedy=f"leave out {'--tokenizer' if tokenizer else '--model'}",
            )
        return path
    if tokenizer and model:
        raise UsageError(
            "two tokenizers are given", where=str(path), remedy="leave out --tokenizer or --model"
        )
    if given is None:
        raise UsageError(
            "text needs a tokenizer to be shown as tokens",
            where=str(path),
            remedy="add --tokenizer DIR, or --model DIR",
        )
    return given
