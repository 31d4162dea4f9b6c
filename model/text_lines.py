"""Lines of UTF-8 files, plain or `.gz`, one at a time, and the JSON objects of `.jsonl`.

Whatever cannot be read exactly is an `ArtifactError` that names the file and the line: nothing is skipped or replaced.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from model.errors import ArtifactError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def text_lines(path: Path) -> Iterator[tuple[str, int]]:
    """The lines of a file with their ends, and the number of bytes of each; a byte order mark is no part of the first.

    Raises:
        ArtifactError: unreadable, truncated or not UTF-8.
    """
    offset = 0
    for number, line in enumerate(_lines(path), start=1):
        yield _decode(line, path, number, offset), len(line)
        offset += len(line)


def json_lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a `.jsonl[.gz]` file and their places ("FILE line 12"); blank lines are passed over.

    Raises:
        ArtifactError: unreadable, truncated, not UTF-8, or a line that is no JSON object.
    """
    for number, (line, _) in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(
                f"not JSON ({error})",
                where=place,
                remedy="repair or remove the line; each line is one JSON object",
            ) from error
        if not isinstance(row, dict):
            raise ArtifactError(
                f"is a JSON {type(row).__name__}, not an object",
                where=place,
                remedy="write one JSON object a line",
            )
        yield row, place


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with _open(path) as opened:
            for number, line in enumerate(opened):
                yield line.removeprefix(_BYTE_ORDER_MARK) if number == 0 else line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ArtifactError(
            f"the gzip file is damaged or cut short ({error})",
            where=str(path),
            remedy="fetch or write it again",
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="check the path and its permissions"
        ) from error


def _decode(line: bytes, path: Path, number: int, offset: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(
            f"not UTF-8: byte 0x{line[error.start]:02x} at offset {offset + error.start} ({error.reason})",
            where=f"{path} line {number}",
            remedy="convert the file to UTF-8, for example with iconv",
        ) from error
