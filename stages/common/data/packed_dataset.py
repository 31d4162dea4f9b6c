"""Reading a packed dataset: `dataset.json`, the rows of each source and the validation rows."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from model.errors import ArtifactError
from stages.common.data.packing import PADDING_DOCUMENT, Row
from stages.common.data.row_writer import row_columns

DATASET_FILE = "dataset.json"
FULL_CHECK_TOKENS = 1 << 30


class SplitCounts(BaseModel):
    """What went into the rows of one source, or of the validation set. Bytes are of text, in UTF-8."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: NonNegativeInt
    tokens: NonNegativeInt = Field(description="With <s> and </s>, without padding.")
    documents: NonNegativeInt
    cut_documents: NonNegativeInt = Field(description="Documents longer than a row.")
    bytes: NonNegativeInt
    trained_tokens: NonNegativeInt | None = Field(
        None, description="Tokens that the loss mask trains; None in a dataset without masks."
    )


class SourceCounts(SplitCounts):
    """A source's rows, and what was left out of it."""

    read: NonNegativeInt = Field(description="Documents in the source's files.")
    empty: NonNegativeInt
    exact_duplicates: NonNegativeInt
    near_duplicates: NonNegativeInt
    held_out: NonNegativeInt = Field(description="Documents that went to the validation set.")
    like_validation: NonNegativeInt = Field(
        description="Left out for being a duplicate of a validation document."
    )


class DatasetDescription(BaseModel):
    """The content of dataset.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    seq_len: PositiveInt
    vocab_size: PositiveInt
    masked: bool = Field(False, description="Rows have a loss mask; otherwise every next token is trained.")
    tokenizer: str = Field(description="Content hash of the tokenizer's directory.")
    sources: dict[str, SourceCounts]
    phases: list[dict[str, PositiveFloat]]
    validation: SplitCounts | None = Field(description="None where nothing was held out.")


class PackedRows:
    """Rows of one `save_to_disk` directory, memory-mapped. `rows[i]` is the i-th `Row`; every row is checked when read."""

    def __init__(
        self, directory: Path, *, seq_len: int, vocab_size: int, masked: bool, expected_rows: int
    ) -> None:
        self.directory = directory
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        table = self._open()
        self._starts = [0]
        self._chunks: list[tuple[NDArray[Any], ...]] = []
        columns = row_columns(masked=masked)
        for batch in table.to_batches():
            self._chunks.append(tuple(self._values(batch, *column) for column in columns.items()))
            self._starts.append(self._starts[-1] + batch.num_rows)
        if len(self) != expected_rows:
            raise self._damaged(f"holds {len(self)} rows where {DATASET_FILE} says {expected_rows}")

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Row:
        """Row `index`, 0 to len - 1. ArtifactError for a row that no packer wrote."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)} in {self.directory}")
        chunk = bisect_right(self._starts, index) - 1
        offset = index - self._starts[chunk]
        row = Row(*(values[offset] for values in self._chunks[chunk]))
        self._check(*(values[None, offset] for values in self._chunks[chunk]), first_row=index)
        return row

    def check_all(self) -> None:
        """Reads every row and raises ArtifactError at the first one that is damaged."""
        for start, arrays in zip(self._starts, self._chunks, strict=False):
            self._check(*arrays, first_row=start)

    def _open(self) -> Any:
        import datasets
        import pyarrow as pa

        try:
            return datasets.load_from_disk(str(self.directory)).data.table
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(
                f"cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})"
            ) from error

    def _values(self, batch: Any, name: str, kind: str) -> NDArray[Any]:
        import pyarrow as pa

        if name not in batch.schema.names:
            raise self._damaged(f"has no column {name!r}")
        column = batch.column(name)
        if column.type != pa.list_(pa.type_for_alias(kind), self.seq_len):
            raise self._damaged(f"column {name!r} is {column.type}, not {kind} lists of {self.seq_len}")
        values = column.flatten()
        if values.null_count or len(values) != len(column) * self.seq_len:
            raise self._damaged(f"column {name!r} has nulls")
        return values.to_numpy(zero_copy_only=True).reshape(-1, self.seq_len)

    def _check(
        self,
        input_ids: NDArray[np.int32],
        document_ids: NDArray[np.int32],
        loss_mask: NDArray[np.int8] | None = None,
        *,
        first_row: int,
    ) -> None:
        """All [rows, seq_len]: ids inside the vocabulary; documents 0, 1, 2, ..., then padding; a mask of 0 and 1."""
        if not len(input_ids):
            return
        outside = (input_ids < 0) | (input_ids >= self.vocab_size)
        padding = document_ids == PADDING_DOCUMENT
        # Counting padding as one document more, ids go up by 0 or 1 from 0, and all padding comes last.
        last = np.maximum(document_ids.max(axis=1, keepdims=True), PADDING_DOCUMENT)
        steps = np.diff(np.where(padding, last + 1, document_ids), axis=1, prepend=document_ids[:, :1])
        disordered = (document_ids[:, :1] != 0) | (steps < 0) | (steps > 1)
        defects = [
            (outside, f"a token id outside 0..{self.vocab_size - 1}"),
            (disordered, "document ids out of order"),
        ]
        if loss_mask is not None:
            defects.append(((loss_mask != 0) & ((loss_mask != 1) | padding), "a loss mask that is no mask"))
        for wrong, what in defects:
            if wrong.any():
                row = first_row + int(np.argmax(wrong.any(axis=1)))
                raise self._damaged(f"row {row} has {what}")

    def _damaged(self, what: str) -> ArtifactError:
        return ArtifactError(what, where=str(self.directory), remedy="prepare the dataset again")


class PackedDataset:
    """A dataset artifact: packed rows by source, the validation rows and their description.

    Attributes:
        directory: the artifact; it holds the tokenizer too.
        description: `DatasetDescription`; `seq_len`, `vocab_size` and `phases` are also here.
        sources: `PackedRows` by name.
        validation: `PackedRows`, or None where nothing was held out.
    """

    def __init__(
        self,
        directory: Path,
        description: DatasetDescription,
        sources: dict[str, PackedRows],
        validation: PackedRows | None,
    ) -> None:
        self.directory = directory
        self.description = description
        self.seq_len = description.seq_len
        self.vocab_size = description.vocab_size
        self.phases = description.phases
        self.sources = sources
        self.validation = validation

    @classmethod
    def open(cls, directory: Path, *, check_rows: bool | None = None) -> PackedDataset:
        """Opens the output of `nano2 data prepare` without reading it into memory.

        Args:
            directory: the artifact.
            check_rows: read every row once and check it now. By default for up to `FULL_CHECK_TOKENS` tokens (a
                second or two); a row of a larger dataset is checked when it is used.

        Raises:
            ArtifactError: missing, incomplete, of another schema, or with rows that no packer wrote.
        """
        description = read_description(directory)
        names = {f"sources/{name}": counts for name, counts in description.sources.items()}
        splits: dict[str, SplitCounts] = {**names}
        if description.validation is not None:
            splits["validation"] = description.validation
        opened = {
            name: PackedRows(
                directory / name,
                seq_len=description.seq_len,
                vocab_size=description.vocab_size,
                masked=description.masked,
                expected_rows=counts.rows,
            )
            for name, counts in splits.items()
        }
        if check_rows is None:
            check_rows = sum(map(len, opened.values())) * description.seq_len <= FULL_CHECK_TOKENS
        if check_rows:
            for rows in opened.values():
                rows.check_all()
        sources = {name: opened[f"sources/{name}"] for name in description.sources}
        return cls(directory, description, sources, opened.get("validation"))


def read_description(directory: Path) -> DatasetDescription:
    """dataset.json of a dataset artifact; ArtifactError if it is missing or not one of ours."""
    path = directory / DATASET_FILE
    try:
        return DatasetDescription.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(
            f"no {DATASET_FILE} there, so it is no packed dataset",
            where=str(directory),
            remedy="give the output of `nano2 data prepare`",
        ) from error
    except (ValidationError, UnicodeDecodeError) as error:
        detail = "not UTF-8"
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            detail = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        raise ArtifactError(
            f"is no valid dataset description ({detail})", where=str(path), remedy="prepare the dataset again"
        ) from error
