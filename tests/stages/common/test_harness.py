"""The harness around a real stage: reuse, resume, the lock, leftovers, and that OUT is whole or absent."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.artifact.provenance import read_provenance
from model.errors import (
    ArtifactError,
    DivergedError,
    InterruptedRunError,
    Nano2Error,
    PlanRefusedError,
    UsageError,
)
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.run_directory import locked_run_directory
from stages.common.stage import Stage, StageOutcome
from tests.nano2cli.toy import SHOW, SIMPLE, STAGE, ToyConfig

COMMAND = ["nano2", "toy"]


def run(
    stage: Stage, out: Path | None, overwrite: bool = False, keep_run: bool = False, **settings: Any
) -> StageOutcome:
    return run_stage(
        stage,
        ToyConfig.model_validate(settings),
        out=out,
        reporter=QuietReporter(),
        command=COMMAND,
        overwrite=overwrite,
        keep_run=keep_run,
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_artifact_says_what_made_it(out: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("words")
    outcome = run(STAGE, out, steps=4, seed=3, data=[f"{tmp_path}/text:2"])
    provenance = read_provenance(out)
    assert provenance is not None
    assert (provenance.stage, provenance.kind, provenance.seed) == ("toy", "eval", 3)
    assert provenance.command == COMMAND
    assert provenance.metrics == outcome.result.metrics
    assert (provenance.data[0].path, provenance.data[0].weight) == ("text", 2.0)
    assert provenance.config["steps"] == 4
    assert {"python", "torch"} <= set(provenance.versions)
    assert not outcome.up_to_date
    assert names(tmp_path) == ["out", "text"]


def test_a_parent_artifact_is_recorded_as_one(out: Path, tmp_path: Path) -> None:
    run(SIMPLE, tmp_path / "parent")
    run(SIMPLE, out, model=tmp_path / "parent")
    provenance = read_provenance(out)
    assert provenance is not None
    assert [(parent.path, parent.kind) for parent in provenance.parents] == [("parent", "eval")]
    assert provenance.data == []


def test_a_finished_artifact_is_touched_and_not_redone(out: Path) -> None:
    run(STAGE, out, log_every=1)
    old = time.time() - 1000
    for path in out.iterdir():
        os.utime(path, (old, old))
    again = run(STAGE, out, log_every=2)
    assert again.up_to_date
    assert again.result.metrics == {"loss": 0.5, "steps": 5}
    assert (out / "nano2.json").stat().st_mtime > old + 500
    assert (out / "weights.txt").stat().st_mtime == pytest.approx(old)


def test_a_taken_output_is_refused_with_the_difference(out: Path) -> None:
    run(STAGE, out, steps=4)
    before = (out / "weights.txt").read_text()
    with pytest.raises(UsageError, match="steps was 4 there and is 6 here"):
        run(STAGE, out, steps=6)
    with pytest.raises(UsageError, match="made by 'toy'"):
        run(SIMPLE, out, steps=4)
    assert (out / "weights.txt").read_text() == before
    assert not run(STAGE, out, steps=6, overwrite=True).up_to_date
    assert (out / "weights.txt").read_text() != before
    assert names(out.parent) == ["out"]


def test_overwrite_does_not_redo_what_is_up_to_date(out: Path) -> None:
    run(STAGE, out)
    assert run(STAGE, out, overwrite=True).up_to_date


@pytest.mark.parametrize("damage", ["missing", "truncated", "provenance"])
def test_a_damaged_artifact_is_not_up_to_date(out: Path, damage: str) -> None:
    run(STAGE, out)
    match damage:
        case "missing":
            (out / "weights.txt").unlink()
        case "truncated":
            (out / "weights.txt").write_text("x")
        case "provenance":
            (out / "nano2.json").write_text("{")
    with pytest.raises((UsageError, ArtifactError)):
        run(STAGE, out)
    assert not run(STAGE, out, overwrite=True).up_to_date
    assert run(STAGE, out).up_to_date


def test_a_folder_of_the_users_own_is_never_replaced(out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError):
            run(STAGE, out, overwrite=overwrite)
    assert names(out) == ["thesis.tex"]
    assert names(out.parent) == ["out"]


def test_a_run_folder_of_the_users_own_is_never_touched(out: Path) -> None:
    folder = out.with_name("out.run")
    folder.mkdir()
    (folder / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="not made by nano2"):
            run(STAGE, out, overwrite=overwrite)
    assert (folder / "thesis.tex").exists()


@pytest.mark.parametrize("name", ["x.run", "x.tmp-12", "x.old-1", "."])
def test_names_that_nano2_needs_for_itself_are_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(UsageError):
        run(STAGE, Path(name))
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("where", ["in", "in/below", "."])
def test_an_output_over_its_input_is_refused(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(SIMPLE, Path("in"))
    with pytest.raises(UsageError, match="input"):
        run(SIMPLE, Path(where), model="in", overwrite=True)
    assert names(tmp_path) == ["in"]


def test_an_output_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        run(STAGE, tmp_path / "file" / "out")
    with pytest.raises(UsageError, match="missing"):
        run(STAGE, None)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("stage", [STAGE, SIMPLE])
@pytest.mark.parametrize(
    ("fail", "error"),
    [
        ("disk", ArtifactError),
        ("disk_in_words", ArtifactError),
        ("key_error", KeyError),
        ("diverged", DivergedError),
    ],
)
def test_a_failure_leaves_no_output(tmp_path: Path, stage: Stage, fail: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(stage, tmp_path / "new" / "folder" / "out", fail=fail)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    if stage is SIMPLE:
        assert left == []
    else:  # whole state, saved before the failure, is worth keeping
        assert "new/folder/out.run/state.json" in left
        assert not [name for name in left if "tmp" in name or name.endswith("/out")]


def test_a_refused_plan_and_a_missing_input_leave_nothing(tmp_path: Path, out: Path) -> None:
    with pytest.raises(PlanRefusedError, match="lower --memory"):
        run(STAGE, out, memory="2GiB")
    with pytest.raises(PlanRefusedError):
        run(replace(SHOW, plan=STAGE.plan), None, memory="2GiB")
    with pytest.raises(ArtifactError):
        run(STAGE, out, model=tmp_path / "gone")
    assert names(tmp_path) == []


class TestResume:
    @pytest.fixture
    def interrupted(self, out: Path) -> Path:
        """An output whose run failed half way, with state of 2 of 5 steps."""
        with pytest.raises(KeyError):
            run(STAGE, out, fail="key_error")
        assert json.loads((out.with_name("out.run") / "state.json").read_text())[0] == 2
        return out.with_name("out.run")

    def test_the_same_command_continues(self, out: Path, interrupted: Path, tmp_path: Path) -> None:
        state = json.loads((interrupted / "state.json").read_text())
        (interrupted / "state.json").write_text(json.dumps([4, state[1]]))  # a sign that it is read
        run(STAGE, out)
        run(STAGE, tmp_path / "fresh")
        assert (out / "weights.txt").read_text() != (tmp_path / "fresh" / "weights.txt").read_text()
        assert not interrupted.exists()

    def test_it_ends_where_an_uninterrupted_run_ends(
        self, out: Path, interrupted: Path, tmp_path: Path
    ) -> None:
        assert interrupted.exists()
        run(STAGE, out)
        run(STAGE, tmp_path / "fresh")
        assert (out / "weights.txt").read_text() == (tmp_path / "fresh" / "weights.txt").read_text()

    def test_overwrite_continues_the_same_command_too(self, out: Path, interrupted: Path) -> None:
        (interrupted / "state.json").write_text(json.dumps([5, "continued"]))
        run(STAGE, out, overwrite=True)
        assert (out / "weights.txt").read_text() == "continued"

    def test_another_config_is_refused_or_discards(self, out: Path, interrupted: Path) -> None:
        with pytest.raises(UsageError, match="seed was 0 there and is 1 here") as caught:
            run(STAGE, out, seed=1)
        assert "--overwrite" in caught.value.remedy
        with pytest.raises(UsageError, match="a run of 'toy'"):
            run(SIMPLE, out)
        (interrupted / "state.json").write_text(json.dumps([5, "continued"]))
        run(STAGE, out, seed=1, overwrite=True)
        assert (out / "weights.txt").read_text() != "continued"

    def test_changed_data_is_another_run(self, out: Path, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("a")
        with pytest.raises(KeyError):
            run(STAGE, out, fail="key_error", data=[tmp_path / "text"])
        (tmp_path / "text").write_text("b")
        with pytest.raises(UsageError, match="data was"):
            run(STAGE, out, data=[tmp_path / "text"])

    def test_a_damaged_record_is_named(self, out: Path, interrupted: Path) -> None:
        (interrupted / "run.json").write_text("{")
        with pytest.raises(ArtifactError, match="damaged"):
            run(STAGE, out)

    def test_a_kill_before_the_record_was_whole_does_not_block(self, out: Path) -> None:
        folder = out.with_name("out.run")
        folder.mkdir()
        (folder / ".run.json.tmp-12").write_text("{")
        run(STAGE, out)
        assert names(out.parent) == ["out"]

    def test_keep_run_keeps_the_state(self, out: Path) -> None:
        run(STAGE, out, keep_run=True)
        assert {"run.json", "state.json"} <= set(names(out.with_name("out.run")))


HOLDER = """
import sys, time
from pathlib import Path
from stages.common.run_directory import locked_run_directory
with locked_run_directory(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def _start_holder(out: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    return holder


def test_a_second_writer_is_refused_and_a_dead_one_does_not_block(out: Path) -> None:
    holder = _start_holder(out)
    try:
        with pytest.raises(UsageError, match=f"another run \\(process {holder.pid}\\)"):
            run(STAGE, out)
        assert not out.exists()
    finally:
        holder.kill()
        holder.wait()
    run(STAGE, out)
    assert names(out.parent) == ["out"]


def test_an_artifact_that_is_done_needs_no_lock(out: Path) -> None:
    run(STAGE, out)
    with locked_run_directory(out):
        assert run(STAGE, out).up_to_date


KILLED = """
import os, signal, sys
from pathlib import Path
from model.artifact.staging import staged_directory
from stages.common.run_directory import locked_run_directory
with locked_run_directory(Path(sys.argv[1])), staged_directory(Path(sys.argv[1])) as staging:
    (staging / "half").write_text("written")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_leftovers_of_the_dead_are_removed(out: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert killed.returncode == -9
    assert len(names(out.parent)) == 2
    run(STAGE, out)
    assert names(out.parent) == ["out"]


def test_of_many_writers_at_once_one_works_and_the_others_say_so(out: Path) -> None:
    results: list[object] = []

    def attempt() -> None:
        try:
            results.append(run(STAGE, out, delay=0.02).up_to_date)
        except Nano2Error as error:
            results.append(type(error))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(False) == 1
    assert set(results) <= {False, True, UsageError}
    assert names(out.parent) == ["out"]


def test_commands_without_an_artifact() -> None:
    outcome = run(SHOW, None, steps=2)
    assert outcome.result.metrics["lines"] == 2
    assert outcome.out is None
    assert run(SHOW, None, fail="result").result.failure is not None
    with pytest.raises(ArtifactError, match="full"):
        run(SHOW, None, fail="disk")


def test_a_stage_must_return_a_result(out: Path) -> None:
    with pytest.raises(TypeError, match="StageResult"):
        run(replace(SIMPLE, run="tests.nano2cli.toy:plan_as_run"), out)
    assert names(out.parent) == []


def test_interrupted_errors_count_the_seconds(out: Path) -> None:
    with pytest.raises(InterruptedRunError):
        run(STAGE, out, fail="interrupted", delay=0.05)
    record = json.loads((out.with_name("out.run") / "run.json").read_text())
    assert 0.05 < record["seconds"] < 5
    assert run(STAGE, out, delay=0.05).seconds > record["seconds"]


def test_reuse_tidies_up_too(out: Path) -> None:
    run(STAGE, out)
    shutil.copytree(out, out.with_name("out.trash-1_0badcafe"))
    assert run(STAGE, out).up_to_date
    assert names(out.parent) == ["out"]


def test_a_lock_whose_folder_vanished_is_no_lock(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner may remove OUT.run between our opening the lock file and our locking it."""
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        shutil.rmtree(out.with_name("out.run"))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked_run_directory(out), pytest.raises(UsageError, match="another run"), locked_run_directory(out):
        pass


def test_what_comes_before_a_stage_comes_before_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "early.py").write_text(
        "import os\ndef prepare() -> None:\n    os.environ['SET_EARLY'] = 'yes'\n"
    )
    (tmp_path / "late.py").write_text(
        "import os\nSEEN = os.environ['SET_EARLY']\ndef plan(config): return None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SET_EARLY", "no")
    stage = Stage("x", None, ToyConfig, run="late:run", plan="late:plan", before="early:prepare")
    assert stage.call_plan(ToyConfig()) is None
    assert sys.modules["late"].SEEN == "yes"
