"""Answers that cost money survive whatever happens to the run."""

import json
from pathlib import Path

import pytest

from stages.data.longqa.kept_pairs import FILE, KeptPairs
from stages.data.longqa.pairs import Pair

PAIRS = {f"key{number}": Pair(f"Was ist «{number}»?", f"Antwort {number}", "written") for number in range(5)}


def _keep(directory: Path) -> bytes:
    with KeptPairs(directory) as kept:
        for key, pair in PAIRS.items():
            kept.add(key, pair)
            assert kept.get(key) == pair
    return (directory / FILE).read_bytes()


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    _keep(tmp_path)
    with KeptPairs(tmp_path) as kept:
        assert (len(kept), kept.damaged) == (5, 0)
        assert {key: kept.get(key) for key in PAIRS} == PAIRS
        assert kept.get("another") is None


def test_nothing_kept_leaves_no_file(tmp_path: Path) -> None:
    with KeptPairs(tmp_path) as kept:
        assert len(kept) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", range(1, 60, 7))
def test_a_line_cut_short_costs_itself_alone(tmp_path: Path, missing: int) -> None:
    content = _keep(tmp_path)
    (tmp_path / FILE).write_bytes(content[:-missing])
    with KeptPairs(tmp_path) as kept:
        lost = missing > 1  # only the line end is missing
        assert len(kept) == 5 - lost
        assert kept.damaged == lost
        kept.add("new", PAIRS["key0"])
    with KeptPairs(tmp_path) as kept:
        assert kept.get("new") == PAIRS["key0"]
        assert len(kept) == 6 - lost


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"[1, 2, 3, 4]",
        b'["a", "b", "c"]',
        b"\xff\xfe",
        b'["a", "b", "c", "d"]',
        b"[" * 9999,
    ],
)
def test_a_damaged_line_is_passed_over(tmp_path: Path, line: bytes) -> None:
    content = _keep(tmp_path).splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join([*content[:2], line + b"\n", *content[2:]]))
    with KeptPairs(tmp_path) as kept:
        assert (len(kept), kept.damaged) == (5, 1)


def test_a_changed_character_is_noticed(tmp_path: Path) -> None:
    content = _keep(tmp_path)
    (tmp_path / FILE).write_bytes(content.replace(b"Antwort 3", b"Antwort 4"))
    with KeptPairs(tmp_path) as kept:
        assert kept.get("key3") is None
        assert (len(kept), kept.damaged) == (4, 1)


def test_a_line_is_on_the_disk_at_once(tmp_path: Path) -> None:
    with KeptPairs(tmp_path) as kept:
        kept.add("key0", PAIRS["key0"])
        key, question, answer, _ = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
        assert (key, Pair(question, answer, "written")) == ("key0", PAIRS["key0"])
