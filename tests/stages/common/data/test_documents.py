import gzip
import json
from pathlib import Path

import pytest

from model.errors import ArtifactError
from stages.common.data import documents
from stages.common.data.documents import read_documents
from tests.stages.common.data.helpers import write_jsonl

TEXTS = ["plain", "two\nlines\r\n", "", "Grüße, 世界 \U0001f600", '"quoted" \\ back', "\u2028 line separator"]


def _write_parquet(path: Path, columns: dict[str, list[object]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def _texts(path: Path, field: str = "text") -> list[str]:
    return [document.text for document in read_documents(path, field)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "saved"])
def test_every_format_gives_the_texts_unchanged_in_order(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        _write_parquet(path, {"id": list(range(len(TEXTS))), "text": list(TEXTS)})
    elif name == "saved":
        from datasets import Dataset

        Dataset.from_dict({"id": list(range(len(TEXTS))), "text": TEXTS}).save_to_disk(path)
    else:
        write_jsonl(path, TEXTS)
    assert _texts(path) == TEXTS
    with pytest.raises(ArtifactError, match=r"no field 'body'; it has: id, text") as caught:
        _texts(path, "body")
    assert "--text-field" in caught.value.remedy


def test_text_files_are_one_document_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\ntwo")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("drei ß".encode()))
    assert _texts(tmp_path / "a.txt") == ["one\r\n\ntwo"]
    assert _texts(tmp_path / "b.txt.gz") == ["drei ß"]


def test_long_text_files_are_read_in_parts_cut_at_line_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "TEXT_PART_BYTES", 100)
    text = "".join(f"line {number}\n" for number in range(100))
    (tmp_path / "a.txt").write_text(text)
    parts = list(read_documents(tmp_path / "a.txt"))
    assert "".join(part.text for part in parts) == text
    assert all(len(part.text) <= 100 and part.text.endswith("\n") for part in parts)
    assert parts[1].place.endswith(f"a.txt line {parts[0].text.count(chr(10)) + 1}")


def test_blank_lines_between_json_lines_are_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n\n  \n{"text": "y"}')
    assert [(item.text, item.place[-6:]) for item in read_documents(tmp_path / "a.jsonl")] == [
        ("x", "line 1"),
        ("y", "line 4"),
    ]


GOOD = json.dumps({"text": "good"}).encode() + b"\n"


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("a.jsonl", GOOD + b'{"text": "cut', "a.jsonl line 2", "not JSON"),
        ("a.jsonl", GOOD + b"[1]\n", "a.jsonl line 2", "a JSON list, not an object"),
        ("a.jsonl", GOOD + b'{"body": "x"}\n', "a.jsonl line 2", "no field 'text'; it has: body"),
        ("a.jsonl", GOOD + b'{"text": 7}\n', "a.jsonl line 2", "is int, not a string"),
        ("a.jsonl", GOOD + b'{"text": null}\n', "a.jsonl line 2", "is null, not a string"),
        (
            "a.jsonl",
            GOOD + b'{"text": "\\ud83d"}\n',
            "a.jsonl line 2",
            "half of a surrogate pair at character 0",
        ),
        ("a.jsonl", GOOD + b'{"text": "\xff"}\n', "a.jsonl line 2", "not UTF-8: byte 0xff at offset 27"),
        ("a.jsonl", GOOD + b"[" * 100_000 + b"\n", "a.jsonl line 2", "not JSON"),
        ("a.txt", b"fine\nfine\nbad \xe2\x28 here\n", "a.txt line 3", "not UTF-8: byte 0xe2 at offset 14"),
        ("a.jsonl.gz", gzip.compress(GOOD * 5000, mtime=0)[:-20], "a.jsonl.gz", "damaged or cut short"),
        ("a.jsonl.gz", GOOD, "a.jsonl.gz", "damaged or cut short"),
        (
            "a.txt.gz",
            gzip.compress(b"x" * 999, mtime=0)[:15] + b"\x00" * 9,
            "a.txt.gz",
            "damaged or cut short",
        ),
        ("a.parquet", b"PAR1 this is no parquet file", "a.parquet", "cannot be read as parquet"),
        ("a.parquet", b"", "a.parquet", "cannot be read as parquet"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_bad_input_is_named_with_its_place(
    tmp_path: Path, name: str, content: bytes, where: str, what: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        _texts(tmp_path / name)
    assert caught.value.where.endswith(where)
    assert what in caught.value.what
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_parquet_rows_must_be_strings(tmp_path: Path) -> None:
    path = _write_parquet(tmp_path / "a.parquet", {"text": ["x", None, "y"], "n": [1, 2, 3]})
    with pytest.raises(ArtifactError, match=r"a.parquet row 2: field 'text' is null"):
        _texts(path)
    with pytest.raises(ArtifactError, match=r"a.parquet row 1: field 'n' is int"):
        _texts(path, "n")


def test_a_damaged_saved_dataset_is_named(tmp_path: Path) -> None:
    from datasets import Dataset

    path = tmp_path / "saved"
    Dataset.from_dict({"text": ["x"] * 1000}).save_to_disk(path)
    [arrow] = path.glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:-300])
    with pytest.raises(ArtifactError, match="saved: cannot be read as a saved dataset"):
        _texts(path)


def test_files_larger_than_memory_are_read_a_line_at_a_time(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl.gz", ["first"] + ["x" * 1000] * 5000)
    with (tmp_path / "a.jsonl.gz").open("ab") as file:
        file.write(b"garbage at the end")
    assert next(iter(read_documents(tmp_path / "a.jsonl.gz"))).text == "first"
