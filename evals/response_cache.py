"""Answers and scores that were computed once, kept in a file by the content of what was asked.

    cache = ResponseCache(directory / "answers", warn)
    key = content_key({"model": ..., "tokens": ..., "seed": ...})
    if (value := cache.get(key)) is None:
        cache.put({key: compute()})

A line is a checksum, a key and a JSON value. Lines are only added, each write whole and under the file's lock, so that any
number of processes may share a file. A line that was cut or changed is found by its checksum, said once, and blanked:
what stood in it is computed again.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from model.errors import UsageError

_SUM_LENGTH = 16
_KEY_LENGTH = 64


def content_text(parts: Any) -> str:
    """Anything that JSON can say as a text; the order of a dictionary's keys does not matter."""
    return json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def content_key(parts: Any) -> str:
    """The sha256 of `content_text`."""
    return hashlib.sha256(content_text(parts).encode()).hexdigest()


@lru_cache(1024)
def tokens_key(tokens: tuple[int, ...]) -> str:
    """A `content_key` that is remembered, since a long prompt stands in many keys."""
    return content_key(tokens)


class ResponseCache:
    """The values in a file, which is made if it is not there. Close it, or use it as a context manager.

    Raises UsageError if the file cannot be opened. A full disk is an OSError that names the file, and leaves what the
    file held before.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self.path = path
        self._warn = warn
        self._places: dict[str, tuple[int, int]] = {}  # of each key's line: where it begins, how long it is
        self._file = self._open()
        self._read_places()

    def __enter__(self) -> "ResponseCache":
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file; one that nothing was put into is gone again."""
        with self._locked():
            os.fsync(self._file)
            if os.fstat(self._file).st_size == 0:
                self.path.unlink()
        os.close(self._file)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Any | None:
        """The value, or None where there is none."""
        if key not in self._places:
            return None
        start, length = self._places[key]
        found = _parsed(os.pread(self._file, length, start))
        if found is None or found[0] != key:  # changed under our hands
            del self._places[key]
            return None
        return found[1]

    def put(self, values: Mapping[str, Any]) -> None:
        """Add values, all in one write."""
        lines = {key: _line(key, value) for key, value in values.items()}
        data = b"".join(lines.values())
        with self._locked():
            end = os.lseek(self._file, 0, os.SEEK_END)
            start = end
            if end and os.pread(self._file, 1, end - 1) != b"\n":  # a killed writer's unfinished line
                data, start = b"\n" + data, end + 1
            try:
                _write(self._file, data, end)
            except OSError as error:
                os.ftruncate(self._file, end)
                raise OSError(error.errno, error.strerror, str(self.path)) from error
        for key, line in lines.items():
            self._places[key] = (start, len(line))
            start += len(line)

    def _read_places(self) -> None:
        damaged = 0
        with self._locked():
            for start, line in _lines(self._file):
                found = _parsed(line)
                if found is not None:
                    self._places[found[0]] = (start, len(line))
                elif line.strip():
                    damaged += 1
                    _write(self._file, b" " * len(line.rstrip(b"\n")), start)
        if damaged:
            self._warn(
                f"{self.path}: dropped {damaged} damaged lines, {len(self)} are whole; what is missing is computed again"
            )

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UsageError(
                f"the cache cannot be written ({error.strerror})",
                where=str(self.path),
                remedy="choose another place",
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        while os.fstat(self._file).st_nlink == 0:  # somebody removed the file
            os.close(self._file)
            self._file, self._places = self._open(), {}
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _line(key: str, value: Any) -> bytes:
    body = f"{key} {json.dumps(value, separators=(',', ':'), allow_nan=False)}".encode()
    return _sum(body) + b" " + body + b"\n"


def _parsed(line: bytes) -> tuple[str, Any] | None:
    """Key and value of a whole line, or None."""
    body = line[_SUM_LENGTH + 1 :].removesuffix(b"\n")
    if not line.endswith(b"\n") or _sum(body) + b" " != line[: _SUM_LENGTH + 1]:
        return None
    return body[:_KEY_LENGTH].decode(), json.loads(body[_KEY_LENGTH:])


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:_SUM_LENGTH].encode()


def _lines(file: int) -> Iterator[tuple[int, bytes]]:
    """Where each line begins, and the line."""
    with os.fdopen(os.dup(file), "rb") as stream:
        stream.seek(0)
        start = 0
        for line in stream:
            yield start, line
            start += len(line)


def _write(file: int, data: bytes, start: int) -> None:
    while data:
        written = os.pwrite(file, data, start)
        data, start = data[written:], start + written
