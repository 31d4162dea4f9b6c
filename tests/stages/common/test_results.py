"""Result files: written whole, read back, and refused when they are not what a command wrote."""

import json
from pathlib import Path

import pytest

from model.errors import ArtifactError
from stages.common.results import read_result, write_result

METRICS = {"ratio": 1.5, "tokens": 4096}
ROWS = [
    {"table": "train", "side": "ours", "tok_per_s": 100.0, "best": True},
    {"table": "train", "side": "theirs", "tok_per_s": 50.0, "best": False},
    {"table": "decode", "side": "ours", "method": None},
]


def write(directory: Path, **changes: object) -> Path:
    path = directory / "cpu.json"
    arguments = {"command": ["nano2", "bench", "cpu", "-o", "a b"], "metrics": METRICS, "rows": ROWS}
    write_result(path, **arguments | changes)  # type: ignore[arg-type]
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    result = read_result(write(tmp_path))
    assert result.name == "cpu"
    assert result.command == "nano2 bench cpu -o 'a b'"
    assert result.metrics == METRICS
    assert result.rows == ROWS
    assert result.table("decode") == [{"side": "ours", "method": None}]
    assert result.versions["torch"]
    assert result.device["type"] == "cpu"
    assert result.date.utcoffset() is not None


def test_the_file_has_the_parts_that_the_design_names_and_a_row_a_line(tmp_path: Path) -> None:
    text = write(tmp_path).read_text(encoding="utf-8")
    assert list(json.loads(text)) == [
        "name",
        "command",
        "device",
        "commit",
        "date",
        "versions",
        "metrics",
        "rows",
    ]
    assert '\n    {"table": "train", "side": "ours", "tok_per_s": 100.0, "best": true},\n' in text


def test_numbers_keep_their_kind(tmp_path: Path) -> None:
    metrics = read_result(write(tmp_path)).metrics
    assert isinstance(metrics["tokens"], int)
    assert isinstance(metrics["ratio"], float)


def test_no_rows_are_fine(tmp_path: Path) -> None:
    assert read_result(write(tmp_path, rows=[])).rows == []


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"ratio": float("nan")}},
        {"metrics": {"ratio": float("inf")}},
        {"metrics": {"ratio": True}},
        {"metrics": {"ratio": "1.5"}},
        {"metrics": {"not flat": 1}},
        {"rows": [{"table": "a", "x": float("nan")}]},
        {"rows": [{"table": "a", "x": [1]}]},
        {"rows": [{"table": "a", "x": 1}, {"table": "a", "y": 1}]},
        {"command": []},
    ],
)
def test_what_is_no_result_is_not_written(tmp_path: Path, changes: dict[str, object]) -> None:
    path = write(tmp_path)
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match=r"cpu\.json"):
        write(tmp_path, **changes)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda raw: raw.pop("commit"), "commit"),
        (lambda raw: raw.update(extra=1), "extra"),
        (lambda raw: raw.update(date="2026-01-01T00:00:00"), "date"),
        (lambda raw: raw.update(name="gpu"), "named 'gpu'"),
        (lambda raw: raw["metrics"].update(ratio="fast"), "ratio"),
    ],
)
def test_an_edited_file_is_refused(tmp_path: Path, change: object, complaint: str) -> None:
    path = write(tmp_path)
    raw = json.loads(path.read_text())
    change(raw)  # type: ignore[operator]
    path.write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match=complaint):
        read_result(path)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    with pytest.raises(ArtifactError, match=r"cpu\.json.*no such"):
        read_result(path)
    path.write_text("{")
    with pytest.raises(ArtifactError, match=r"cpu\.json.*not valid JSON"):
        read_result(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ArtifactError, match=r"cpu\.json.*not valid JSON"):
        read_result(path)
