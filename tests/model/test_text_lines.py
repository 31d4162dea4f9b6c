"""Lines and JSON objects of files; `tests/stages/common/data/test_documents.py` breaks such files in every way."""

import gzip
from pathlib import Path

import pytest

from model.errors import ArtifactError
from model.text_lines import json_lines, text_lines


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_keep_their_ends_and_know_their_bytes(tmp_path: Path, name: str) -> None:
    data = "\ufeffGrüße\r\n\n世界\u2028\ufeff".encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert list(text_lines(tmp_path / name)) == [("Grüße\r\n", 9), ("\n", 1), ("世界\u2028\ufeff", 12)]


def test_objects_have_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n \t\n{"b": [2]}')
    assert list(json_lines(path)) == [({"a": 1}, f"{path} line 1"), ({"b": [2]}, f"{path} line 4")]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"a": ', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[1]", "is a JSON list, not an object"),
        (b"null", "is a JSON NoneType, not an object"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at offset 16"),
    ],
    ids=range(6),
)  # fmt: skip
def test_a_broken_line_is_named_and_those_before_it_are_read(tmp_path: Path, line: bytes, what: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    rows = json_lines(path)
    assert next(rows) == ({"a": 1}, f"{path} line 1")
    with pytest.raises(ArtifactError) as caught:
        next(rows)
    assert what in caught.value.what
    assert caught.value.where == f"{path} line 2"
    assert caught.value.remedy


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        next(json_lines(tmp_path / "missing.jsonl"))
