"""Result files: written whole, read back, and refused when they are not what a command wrote."""

import json
from pathlib import Path

import pytest

from model.errors import ArtifactError
from stages.common.results import read_result, write_result, write_run

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


GPU = {"type": "cuda", "name": "H200", "count": 1}


def write_part(path: Path, run: str, **changes: object) -> None:
    given = {"command": ["nano2", run], "metrics": METRICS, "rows": ROWS[:1], "device": GPU}
    write_run(path, run, **given | changes)  # type: ignore[arg-type]


def test_runs_of_other_names_stay_in_a_file_and_the_same_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    write_part(path, "4b", metrics={"ratio_4b": 1.2, "gone": 1, "error_max": 0.04})
    write_part(path, "fp8", metrics={"ratio_fp8": 1.4, "error_max": 0.02})
    assert read_result(path).metrics == {"ratio_4b": 1.2, "gone": 1, "error_max": 0.04, "ratio_fp8": 1.4}
    more = [{"table": "train", "side": "ours", "tok_per_s": 7.0, "best": True, "reserved_bytes": 5}]
    write_part(path, "4b", metrics={"ratio_4b": 1.3, "error_max": 0.01}, rows=more)
    result = read_result(path)
    assert result.metrics == {"ratio_fp8": 1.4, "error_max": 0.02, "ratio_4b": 1.3}
    assert result.command == "nano2 fp8 && nano2 4b"
    assert [row["run"] for row in result.table("runs")] == ["fp8", "4b"]
    rows = result.table("train")
    assert [(row["run"], row["tok_per_s"], row["reserved_bytes"]) for row in rows] == [
        ("fp8", 100.0, None),
        ("4b", 7.0, 5),
    ]


def test_runs_on_different_devices_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    write_part(path, "4b")
    write_part(path, "4b", device=GPU | {"name": "B200"})  # the only one
    with pytest.raises(ArtifactError, match=r"measured on another device \(B200\)"):
        write_part(path, "fp8")
    write_result(path, command=["nano2"], metrics=METRICS, rows=ROWS)
    write_part(path, "fp8")
    assert [row["run"] for row in read_result(path).table("train")] == ["fp8"]
