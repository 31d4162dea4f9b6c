"""documents.jsonl: a document with its pairs a line, as `data prepare` reads it, and where all of it came from."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, cast

from stages.data.longqa.pairs import Pair
from stages.data.longqa.pieces import Piece

FILE = "documents.jsonl"


class DocumentsFile:
    """A context manager. The same documents give the same bytes, compressed or not."""

    def __init__(self, directory: Path, *, compress: bool) -> None:
        self._raw = (directory / (FILE + ".gz" if compress else FILE)).open("wb")
        self._file: IO[bytes] = self._raw
        if compress:
            self._file = cast(IO[bytes], gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", mtime=0))

    def __enter__(self) -> DocumentsFile:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._raw:
            self._file.close()

    def write(
        self, piece: Piece, text: str, tokens: int, pairs: Sequence[tuple[int, Pair]], writer: str
    ) -> None:
        """`pairs` with the number of the chunk that each is from; `text` and `tokens` with the pairs in it."""
        row = {
            "text": text,
            "source": piece.source,
            "place": piece.place,
            "piece": piece.number,
            "pieces": piece.count,
            "document_characters": len(piece.text),
            "document_tokens": piece.tokens,
            "tokens": tokens,
            "chunks": piece.chunks,
            "writer": writer,
            "pairs": [{"chunk": chunk, **asdict(pair)} for chunk, pair in pairs],
        }
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
