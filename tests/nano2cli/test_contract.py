"""stdout is the result, stderr the rest; every end has its exit code; failures are short and leave nothing."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nano2cli.conftest import ENVIRONMENT, PROGRAM, Nano2, start


def test_the_result_is_a_table_on_stdout(nano2: Nano2) -> None:
    ran = nano2("toy", "-o", "out", "--steps", "4")
    assert ran.code == 0
    assert ran.stderr == ""
    assert "steps     4" in ran.stdout
    assert "a note" in ran.stdout
    assert "out written in" in ran.stdout
    again = nano2("toy", "-o", "out", "--steps", "4")
    assert again.code == 0
    assert "out is up to date" in again.stdout


def test_json_is_one_object_on_the_last_line(nano2: Nano2, tmp_path: Path) -> None:
    ran = nano2("toy", "-o", "out", "--json")
    assert len(ran.stdout.splitlines()) == 1
    assert ran.json["command"] == "toy"
    assert ran.json["status"] == "done"
    assert ran.json["out"] == str(tmp_path / "out")
    assert ran.json["metrics"] == {"loss": 0.5, "steps": 5}
    assert nano2("toy", "-o", "out", "--json").json["status"] == "up to date"


def test_json_has_no_nan_and_keeps_markup(nano2: Nano2) -> None:
    ran = nano2("show", "--json")
    payload = json.loads(ran.stdout, parse_constant=lambda word: pytest.fail(word))
    assert payload["metrics"] == {"lines": 5, "nan": None}
    assert payload["rows"] == [{"name": "a[b]", "loss": 1.5}]
    table = nano2("show").stdout
    assert "a[b]" in table
    assert "line 0\nline 1\n" in table


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_what_libraries_print_stays_out_of_stdout(nano2: Nano2, flags: list[str]) -> None:
    ran = nano2("toy", "-o", "out", "--fail", "print", *flags)
    assert ran.code == 0
    assert "noise" not in ran.stdout
    assert "noise from a library" in ran.stderr
    assert "noise from C" in ran.stderr


@pytest.mark.parametrize(
    ("fail", "code", "kind", "what", "where"),
    [
        ("key_error", 1, "Nano2Error", "KeyError: 'mixer'", ""),
        ("exit", 1, "Nano2Error", "SystemExit", ""),
        ("disk", 3, "ArtifactError", "the disk is full", "out"),
        ("disk_in_words", 3, "ArtifactError", "the disk is full", "out"),
        ("memory", 4, "PlanRefusedError", "out of memory", ""),
        ("diverged", 5, "DivergedError", "the loss is NaN", "layer 3, batch 7"),
        ("interrupted", 75, "InterruptedRunError", "interrupted", "half way"),
    ],
)
def test_exit_codes(
    nano2: Nano2, tmp_path: Path, fail: str, code: int, kind: str, what: str, where: str
) -> None:
    ran = nano2("simple", "-o", "out", "--fail", fail, "--json")
    assert ran.code == code
    assert ran.error["exit_code"] == code
    assert ran.error["type"] == kind
    assert what in ran.error["what"]
    assert ran.error["where"].endswith(where)
    assert what in ran.stderr
    assert len(ran.stderr.splitlines()) <= 5
    assert "Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unexpected_exception_is_one_line_and_debug_shows_the_traceback(nano2: Nano2) -> None:
    ran = nano2("simple", "-o", "out", "--fail", "key_error")
    assert ran.stdout == ""
    assert ran.stderr == "error: internal error, KeyError: 'mixer' (--debug shows the traceback)\n"
    debugged = nano2("simple", "-o", "out", "--fail", "key_error", "--debug").stderr
    assert "Traceback (most recent call last)" in debugged
    assert "in _misbehave" in debugged


def test_bad_input_is_exit_3(nano2: Nano2) -> None:
    ran = nano2("toy", "-o", "out", "-m", "gone", "--json")
    assert ran.code == 3
    assert ran.error["where"] == "gone"


def test_a_failure_with_a_result_prints_both(nano2: Nano2) -> None:
    ran = nano2("show", "--fail", "result")
    assert ran.code == 3
    assert "lines" in ran.stdout
    assert ran.stderr == "error: the two disagree\n  where: layer 3\n  next:  look there\n"
    payload = nano2("show", "--fail", "result", "--json").json
    assert payload["metrics"]["lines"] == 5
    assert payload["error"]["exit_code"] == 3


def test_a_plan_runs_nothing(nano2: Nano2, tmp_path: Path) -> None:
    ran = nano2("toy", "--plan", "--memory", "1GiB", "--json")
    assert ran.code == 0
    assert ran.json["status"] == "planned"
    assert ran.json["plan"]["peak_bytes"] == 2**30
    assert "1.0 GiB" in nano2("toy", "--plan", "--memory", "1GiB").stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [["--plan"], ["-o", "out"]])
def test_a_plan_that_cannot_fit_is_refused(nano2: Nano2, tmp_path: Path, flags: list[str]) -> None:
    ran = nano2("toy", "--memory", "2GiB", "--json", *flags)
    assert ran.code == 4
    assert "lower --memory" in ran.error["what"]
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_is_no_failure(tmp_path: Path) -> None:
    process = start(tmp_path, "show", "--steps", "200", "--delay", "0.01")
    assert process.stdout is not None
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_full_disk_behind_stdout_is_exit_3(nano2: Nano2, flags: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ran = nano2("show", *flags, stdout=full)
    assert ran.code == 3
    assert "the disk is full" in ran.stderr
    assert "Exception ignored" not in ran.stderr


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_standard_streams_do_not_matter(tmp_path: Path, redirection: str) -> None:
    command = " ".join([*PROGRAM, "toy", "-o", "out", redirection])
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["README.md", "nano2.json", "weights.txt"]


def test_paths_that_are_no_utf8_and_look_like_markup(nano2: Nano2, tmp_path: Path) -> None:
    odd = os.fsdecode(b"a\xff[bold]")
    (tmp_path / odd).write_text("text")
    ran = nano2("show", "-d", odd, "--steps", "1")
    assert ran.code == 0, ran.stderr
    ran = nano2("show", "-m", odd + "x", "--json")
    assert ran.code == 3
    assert "[bold]" in ran.error["where"]


def test_a_terminal_gets_a_live_bar_and_still_a_clean_end(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = start(
        tmp_path, "toy", "-o", "out", "--steps", "30", "--delay", "0.1", stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # the terminal is gone when the process ends
        pass
    assert process.wait(timeout=30) == 0
    assert b"\x1b[?25l" in seen
    assert b"tok/s 1234" in seen
    assert b"MFU 25.0%" in seen
    assert b"ETA" in seen
    assert b"folding: 30/30 steps" in seen
    assert seen.rstrip().endswith(b"s")
    assert seen.count(b"\x1b[?25h") >= 1


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small tmpfs")
def test_a_real_full_disk(tmp_path: Path, nano2: Nano2) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        (disk / "filler").write_bytes(b"x" * 4096)
        ran = nano2("simple", "-o", "disk/out", "--fail", "fill", "--json")
        assert ran.code == 3, ran.stderr
        assert "disk is full" in ran.error["what"]
        assert os.listdir(disk) == ["filler"]
        ran = nano2("toy", "-o", "disk/out", "--fail", "fill")
        assert ran.code == 3, ran.stderr
        assert "out.run; the same command continues" in ran.stderr
        assert sorted(os.listdir(disk)) == ["filler", "out.run"]
        assert nano2("toy", "-o", "disk/out").code == 0
    finally:
        subprocess.run(["umount", disk], check=True)
