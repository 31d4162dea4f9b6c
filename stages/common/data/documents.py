"""Documents of text files, one at a time, so that a corpus larger than memory can be read.

`.txt[.gz]` is one document (a file above `TEXT_PART_BYTES` is read as several, cut at line ends), `.jsonl[.gz]` one a
line, `.parquet` and a saved `datasets.Dataset` one a row. Whatever cannot be read exactly stops the reading with an
`ArtifactError` that names the file and the line: nothing is skipped or replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import ArtifactError, first_line
from model.text_lines import json_lines, text_lines
from stages.common.data.sources import is_saved_dataset

TEXT_PART_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Document:
    """A document's text and where it stands, such as "books.jsonl.gz line 12"."""

    text: str
    place: str


def read_documents(path: Path, text_field: str = "text") -> Iterator[Document]:
    """The documents of one file in their order, empty ones included.

    Args:
        path: a file of `sources.READABLE_SUFFIXES` or a directory of `datasets.Dataset.save_to_disk`.
        text_field: the key or column that holds a document's text (of jsonl, parquet and saved datasets).

    Raises:
        ArtifactError: unreadable, truncated, not UTF-8, not JSON, or without a string in `text_field`.
    """
    if path.name.endswith((".txt", ".txt.gz")):
        return _read_text(path)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _read_json_lines(path, text_field)
    if is_saved_dataset(path):
        return _read_saved_dataset(path, text_field)
    return _read_parquet(path, text_field)


def _read_text(path: Path) -> Iterator[Document]:
    part: list[str] = []
    part_bytes, first_line = 0, 1
    for number, (line, line_bytes) in enumerate(text_lines(path), start=1):
        if part_bytes and part_bytes + line_bytes > TEXT_PART_BYTES:
            yield Document("".join(part), f"{path} line {first_line}")
            part, part_bytes, first_line = [], 0, number
        part.append(line)
        part_bytes += line_bytes
    yield Document("".join(part), f"{path} line {first_line}")


def _read_json_lines(path: Path, text_field: str) -> Iterator[Document]:
    for row, place in json_lines(path):
        if text_field not in row:
            raise _no_such_field(text_field, row, place)
        yield Document(_checked_text(row[text_field], text_field, place), place)


def _read_parquet(path: Path, text_field: str) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if text_field not in names:
                raise _no_such_field(text_field, names, str(path))
            batches = file.iter_batches(batch_size=256, columns=[text_field])
            values = (value for batch in batches for value in batch.column(0).to_pylist())
            yield from _rows(values, text_field, path)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(
            f"cannot be read as parquet ({first_line(error)})",
            where=str(path),
            remedy="fetch or write it again",
        ) from error


def _read_saved_dataset(path: Path, text_field: str) -> Iterator[Document]:
    import datasets
    import pyarrow as pa

    try:
        dataset = datasets.load_from_disk(str(path))
        if text_field not in dataset.column_names:
            raise _no_such_field(text_field, dataset.column_names, str(path))
        column = dataset.select_columns([text_field])
        values = (value for batch in column.iter(batch_size=256) for value in batch[text_field])
        yield from _rows(values, text_field, path)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"cannot be read as a saved dataset ({first_line(error)})",
            where=str(path),
            remedy="write it again with datasets.Dataset.save_to_disk",
        ) from error


def _rows(values: Iterable[Any], text_field: str, path: Path) -> Iterator[Document]:
    for number, value in enumerate(values, start=1):
        place = f"{path} row {number}"
        yield Document(_checked_text(value, text_field, place), place)


def _checked_text(value: object, text_field: str, place: str) -> str:
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise ArtifactError(
            f"field {text_field!r} is {kind}, not a string",
            where=place,
            remedy="repair the row, or choose another field with --text-field",
        )
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ArtifactError(
                f"field {text_field!r} has half of a surrogate pair at character {error.start}, which is no text",
                where=place,
                remedy="repair the row",
            ) from error
    return value


def _no_such_field(text_field: str, available: Iterable[str], place: str) -> ArtifactError:
    names = ", ".join(sorted(available)) or "none"
    return ArtifactError(
        f"no field {text_field!r}; it has: {names}", where=place, remedy="choose the text with --text-field"
    )
