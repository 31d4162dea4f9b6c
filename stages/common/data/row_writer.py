"""Writing packed rows as Arrow, in the layout of `datasets.Dataset.save_to_disk`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from stages.common.data.packing import Row

if TYPE_CHECKING:
    from datasets import Features

COLUMNS = {"input_ids": "int32", "document_ids": "int32"}
MASK_COLUMN = {"loss_mask": "int8"}
_BATCH_TOKENS = 1 << 20


def row_columns(*, masked: bool) -> dict[str, str]:
    """The columns of a packed dataset and their element types."""
    return COLUMNS | MASK_COLUMN if masked else COLUMNS


def row_features(seq_len: int, *, masked: bool) -> Features:
    """Columns of a packed dataset, each a list of exactly `seq_len`."""
    from datasets import Features, List, Value

    columns = row_columns(masked=masked)
    return Features({name: List(Value(kind), length=seq_len) for name, kind in columns.items()})


class RowWriter:
    """A context manager that streams rows into `directory`; nothing is there until it ends without an exception.

    masked: the rows have loss masks.

    Rows go to one Arrow file beside `directory` first, which is then split into shards of at most 500 MB. The
    dataset's fingerprint is a hash of the rows, so equal rows are equal files.
    """

    def __init__(self, directory: Path, seq_len: int, *, masked: bool = False) -> None:
        self.directory = directory
        self.seq_len = seq_len
        self.masked = masked
        self._unsplit = directory.with_name(f".{directory.name}.arrow")
        self._rows: list[Row] = []
        self._batch_rows = max(1, _BATCH_TOKENS // seq_len)
        self._digest = hashlib.sha256()

    def __enter__(self) -> RowWriter:
        from datasets.arrow_writer import ArrowWriter

        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self._features = row_features(self.seq_len, masked=self.masked)
        self._writer = ArrowWriter(path=str(self._unsplit), features=self._features)
        return self

    def write(self, row: Row) -> None:
        """Adds one row."""
        self._rows.append(row)
        if len(self._rows) == self._batch_rows:
            self._write_batch()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write_batch()
            self._writer.close()
            if kind is None:
                self._save_shards()
        finally:
            self._unsplit.unlink(missing_ok=True)

    def _write_batch(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        arrays = []
        for name in self._features:
            values = np.concatenate([getattr(row, name) for row in self._rows])
            self._digest.update(values.data)
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(values), self.seq_len))
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._features.arrow_schema))
        self._rows = []

    def _save_shards(self) -> None:
        from datasets import Dataset, DatasetInfo
        from datasets.table import MemoryMappedTable
        from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

        table = MemoryMappedTable.from_file(str(self._unsplit))
        fingerprint = self._digest.hexdigest()[:16]
        dataset = Dataset(table, info=DatasetInfo(features=self._features), fingerprint=fingerprint)
        bars = is_progress_bar_enabled()
        disable_progress_bar()
        try:
            dataset.save_to_disk(str(self.directory))
        finally:
            if bars:
                enable_progress_bar()
