"""Pairs that a model or an endpoint has given, kept in OUT.run as they come: they cost time or money.

OUT.run/pairs.jsonl: one pair a line, with a checksum. A line that a kill or a full disk cut short, or that was damaged
otherwise, is passed over, and its pair is written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import BinaryIO

from stages.data.longqa.pairs import Pair

FILE = "pairs.jsonl"


class KeptPairs:
    """A context manager. `damaged` is how many lines could not be used."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._pairs: dict[str, Pair] = {}
        self._file: BinaryIO | None = None
        self._cut_short = False
        self.damaged = 0

    def __enter__(self) -> KeptPairs:
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        for line in lines:
            kept = _parse(line)
            if kept is None:
                self.damaged += 1
            else:
                self._pairs[kept[0]] = kept[1]
        self._cut_short = bool(lines) and not lines[-1].endswith(b"\n")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, key: str) -> Pair | None:
        return self._pairs.get(key)

    def add(self, key: str, pair: Pair) -> None:
        """Keeps a pair; it is on the disk when this returns."""
        if self._file is None:  # not before: a run that has kept nothing leaves nothing to continue from
            self._file = self._path.open("ab")
        record = [key, pair.question, pair.answer]
        line = json.dumps([*record, _checksum(record)], ensure_ascii=False).encode() + b"\n"
        self._file.write(b"\n" + line if self._cut_short else line)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._cut_short = False
        self._pairs[key] = pair


def _parse(line: bytes) -> tuple[str, Pair] | None:
    try:
        *record, checksum = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None
    if len(record) != 3 or not all(isinstance(item, str) for item in record) or checksum != _checksum(record):
        return None
    key, question, answer = record
    return key, Pair(question, answer, "written")


def _checksum(record: list[str]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]
