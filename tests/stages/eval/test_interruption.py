"""An evaluation that is stopped, killed, or finds its kept answers damaged: nothing lost, and the same result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evals.response_cache import ResponseCache
from model.errors import ArtifactError, UsageError
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.eval.config import EvalConfig
from stages.eval.stage import STAGE
from tests.evals.scripted import END, scripted_model
from tests.forked import Forked
from tests.stages.eval.test_eval import run

CHATTER = {
    "\n": {"1": 0.5, "2": 0.5},
    "1": {"1": 0.97, END: 0.03},
    "2": {"2": 0.97, "</think>": 0.03},
    "</think>": "1",
}
SETTINGS: dict[str, Any] = {
    "tasks": ["nano2_svamp", "nano2_arc_easy"],
    "limit": 24,
    "repeats": 2,
    "apply_chat_template": True,
    "gen": {"max_gen_toks": 60, "temperature": 1.0},
    "batch_rows": 3,
    "batch_tokens": 400,
    "seed": 5,
}
ANSWERS = 48 + 24 * 4  # generated; scored


@pytest.fixture(scope="module")
def model(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(tmp_path_factory.mktemp("models") / "model", tokenizer_directory, CHATTER)


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evaluation without an interruption."""
    out: Path = tmp_path_factory.mktemp("whole") / "whole"
    run(out, model=model, **SETTINGS)
    return out


def start(model: Path, out: Path) -> Forked:
    flags = [
        *("--tasks", ",".join(SETTINGS["tasks"]), "--limit", "24", "--repeats", "2", "--apply-chat-template"),
        *(
            "--gen",
            "max_gen_toks=60",
            "--gen",
            "temperature=1.0",
            "--batch-rows",
            "3",
            "--batch-tokens",
            "400",
        ),
        *("--seed", "5", "--json"),
    ]
    return Forked("eval", "-m", model, "-o", out, *flags)


def wait_for_lines(path: Path, count: int, process: Forked) -> None:
    deadline = time.monotonic() + 90
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def content_hash(out: Path) -> str:
    return str(json.loads((out / "nano2.json").read_text())["content_hash"])


def test_killed_then_interrupted_then_damaged_then_done(model: Path, whole: Path, tmp_path: Path) -> None:
    out, answers = tmp_path / "whole", tmp_path / "whole.run" / "answers"
    process = start(model, out)
    wait_for_lines(answers, 5, process)
    process.kill()
    process.communicate()
    assert not out.exists()
    survived = answers.read_bytes().count(b"\n")

    process = start(model, out)
    wait_for_lines(answers, survived + 3, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "answers are there already" in stderr
    error = json.loads(stdout.splitlines()[-1])["error"]
    assert error["remedy"] == "run the same command to continue"
    assert sorted(os.listdir(tmp_path)) == ["whole.run"]

    other = EvalConfig.model_validate({"model": model, **SETTINGS, "seed": 6})
    with pytest.raises(UsageError, match="seed was 5 there and is 6 here"):
        run_stage(STAGE, other, out=out, reporter=QuietReporter(), command=["nano2", "eval"])

    lines = answers.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"text", b"tent").replace(b"1", b"2")
    answers.write_bytes(b"\n".join(lines)[:-30])  # and the last one is cut
    reporter = QuietReporter()
    run(out, reporter, model=model, **SETTINGS)
    assert any("dropped 2 damaged lines" in warning for warning in reporter.warnings)
    assert any("continuing the run" in message for message in reporter.messages)
    assert content_hash(out) == content_hash(whole)
    assert sorted(os.listdir(tmp_path)) == ["whole"]


class Counting(QuietReporter):
    """Keeps how many answers were computed, not found: the log says how many were there."""

    def known(self) -> int:
        for message in self.messages:
            if "answers are there already" in message:
                return int(message.split()[0].replace(",", ""))
        return 0


class TestCache:
    def test_another_evaluation_of_the_model_uses_what_is_there(
        self, model: Path, whole: Path, tmp_path: Path
    ) -> None:
        cache = tmp_path / "cache"
        few = {**SETTINGS, "limit": 6, "tasks": ["nano2_svamp"]}
        run(tmp_path / "few", model=model, cache=cache, **few)
        (file,) = cache.iterdir()
        assert file.read_bytes().count(b"\n") == 12
        reporter = Counting()
        run(tmp_path / "whole", reporter, model=model, cache=cache, **SETTINGS)
        assert reporter.known() == 12
        assert file.read_bytes().count(b"\n") == ANSWERS
        assert content_hash(tmp_path / "whole") == content_hash(whole), "the cache is no part of the result"
        size = file.stat().st_size
        run(tmp_path / "again", model=model, cache=cache, **SETTINGS, device="cpu")
        assert file.stat().st_size == size, "something was computed again"

    def test_what_decides_an_answer_is_in_its_key(self, model: Path, tmp_path: Path) -> None:
        """Each of these changes makes new answers; a changed model has a file of its own."""
        cache = tmp_path / "cache"
        base = {**SETTINGS, "tasks": ["nano2_svamp"], "limit": 1, "repeats": 1}
        changes: list[dict[str, Any]] = [
            {},
            {"seed": 6},
            {"gen": {"max_gen_toks": 61, "temperature": 1.0}},
            {"gen": {"max_gen_toks": 60, "temperature": 0.9}},
            {"gen": {"max_gen_toks": 60, "temperature": 1.0, "until": ["x"]}},
            {"thinking": False},
            {"budgets": [7]},
            {"budgets": [7], "thinking_grace": 3},
            {"dtype": "bfloat16"},
        ]
        for number, change in enumerate(changes, start=1):
            run(tmp_path / "out", model=model, cache=cache, **{**base, **change})
            (file,) = cache.iterdir()
            assert file.read_bytes().count(b"\n") == number, change
        run(tmp_path / "out", model=model, cache=cache, **base)
        assert file.read_bytes().count(b"\n") == len(changes)

    def test_a_cache_that_is_no_directory(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UsageError, match="the cache cannot be written"):
            run(tmp_path / "out", model=model, cache=tmp_path / "file", **SETTINGS)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small tmpfs")
@pytest.mark.parametrize("small_disk", ["16k"], indirect=True)
def test_a_full_disk_is_said_once_and_the_answers_stay(model: Path, whole: Path, small_disk: Path) -> None:
    with pytest.raises(ArtifactError, match="the disk is full"):
        run(small_disk / "whole", model=model, **SETTINGS)
    assert os.listdir(small_disk) == ["whole.run"]
    answers = small_disk / "whole.run" / "answers"
    with ResponseCache(answers, pytest.fail) as cache:
        assert len(cache) > 10
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    reporter = Counting()
    run(small_disk / "whole", reporter, model=model, **SETTINGS)
    assert reporter.known() > 10
    assert content_hash(small_disk / "whole") == content_hash(whole)
