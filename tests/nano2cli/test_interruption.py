"""Signals and sudden death: the same command continues, and OUT is whole or absent at every moment."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.nano2cli.conftest import Nano2, start

SLOW = ("--steps", "60", "--delay", "0.1")


def _wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _fresh(nano2: Nano2, tmp_path: Path) -> str:
    assert nano2("toy", "-o", "fresh", "--steps", "60").code == 0
    return (tmp_path / "fresh" / "weights.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_saves_and_the_same_command_continues(
    nano2: Nano2, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path, "toy", "-o", "out", *SLOW, "--json")
    _wait_for(tmp_path / "out.run" / "state.json", process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 75
    assert number.name in stderr
    assert json.loads(stdout.splitlines()[-1])["error"]["type"] == "InterruptedRunError"
    assert sorted(os.listdir(tmp_path)) == ["out.run"]
    done = json.loads((tmp_path / "out.run" / "state.json").read_text())[0]
    assert 0 < done < 60
    ran = nano2("toy", "-o", "out", "--steps", "60")
    assert ran.code == 0
    assert "continuing the run" in ran.stderr
    assert (tmp_path / "out" / "weights.txt").read_text() == _fresh(nano2, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["fresh", "out"]


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)]
)
def test_the_second_signal_ends_at_once(
    nano2: Nano2, tmp_path: Path, first: signal.Signals, second: signal.Signals
) -> None:
    process = start(tmp_path, "toy", "-o", "out", "--steps", "60", "--delay", "20")
    _wait_for(tmp_path / "out.run" / "run.json", process)
    time.sleep(0.3)  # into the long step
    process.send_signal(first)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(second)
    assert process.wait(timeout=5) == -second
    assert not (tmp_path / "out").exists()
    assert nano2("toy", "-o", "out", "--steps", "60").code == 0
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_cannot_resume_ends_at_once_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path, "simple", "-o", "out", *SLOW)
    _wait_for(tmp_path / "out.run" / "run.json", process)
    time.sleep(0.2)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=5)
    assert process.returncode == 75
    assert "interrupted" in stderr
    assert "starts over" in stderr
    assert os.listdir(tmp_path) == []


def test_a_command_without_an_artifact_is_interrupted_too(tmp_path: Path) -> None:
    process = start(tmp_path, "show", *SLOW)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=5)
    assert process.returncode == 75
    assert stderr.startswith("error: interrupted")


def test_killed_at_random_moments_it_ends_with_the_same_weights(nano2: Nano2, tmp_path: Path) -> None:
    dice = random.Random(7)
    kills = 0
    for _ in range(8):
        process = start(tmp_path, "toy", "-o", "out", "--steps", "60", "--delay", "0.01")
        time.sleep(dice.uniform(0.3, 0.9))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate(timeout=30)
        if (tmp_path / "out").exists():
            break
    assert kills >= 2
    assert nano2("toy", "-o", "out", "--steps", "60").code == 0
    assert (tmp_path / "out" / "weights.txt").read_text() == _fresh(nano2, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["fresh", "out"]


def test_a_worker_that_outlives_its_killed_parent_does_not_hold_the_lock(
    nano2: Nano2, tmp_path: Path
) -> None:
    process = start(
        tmp_path, "toy", "-o", "out", "--fail", "fork", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for(tmp_path / "out.run" / "forked", process)
    worker = int((tmp_path / "out.run" / "forked").read_text())
    process.kill()
    process.wait()
    try:
        os.kill(worker, 0)
        ran = nano2("toy", "-o", "out")
        assert ran.code == 0, ran.stderr
    finally:
        os.kill(worker, signal.SIGKILL)


def test_two_at_once(nano2: Nano2, tmp_path: Path) -> None:
    process = start(tmp_path, "toy", "-o", "out", *SLOW)
    _wait_for(tmp_path / "out.run" / "state.json", process)
    ran = nano2("toy", "-o", "out", *SLOW)
    assert ran.code == 2
    assert f"process {process.pid}" in ran.stderr
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 75
