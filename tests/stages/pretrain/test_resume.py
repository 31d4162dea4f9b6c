"""Interrupted at any moment, the same command ends with the weights of the uninterrupted run, hash for hash."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.artifact.hashing import content_hash
from tests.forked import Forked
from tests.stages.pretrain.conftest import twelve_steps

Settings = dict[str, Any]
STEPS, KILLS = 100, 10


@pytest.fixture
def recipe(settings: Settings, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings | {"tokens": STEPS * 4 * 32, "save_seconds": 0.05}))
    return path


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a run that nothing disturbed."""
    folder: Path = tmp_path_factory.mktemp("whole")
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(twelve_steps(dataset) | {"tokens": STEPS * 4 * 32}))
    process = start(recipe, folder / "out")
    assert process.wait() == 0, process.communicate()
    return folder / "out"


def start(recipe: Path, out: Path) -> Forked:
    return Forked("pretrain", "--config", recipe, "-o", out)


def wait_for_state(run_dir: Path, process: Forked, than: str = "") -> None:
    """Until a state newer than `than` is saved, or the process has ended."""
    deadline = time.monotonic() + 60
    while process.poll() is None and newest_state(run_dir) <= than and time.monotonic() < deadline:
        time.sleep(0.005)


def newest_state(run_dir: Path) -> str:
    return max((path.name for path in run_dir.glob("step-*")), default="")


def losses(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


@pytest.mark.parametrize(
    "signal_number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_same_command_continues(
    recipe: Path, whole: Path, tmp_path: Path, signal_number: signal.Signals
) -> None:
    process = start(recipe, tmp_path / "base")
    wait_for_state(tmp_path / "base.run", process)
    process.send_signal(signal_number)
    assert process.wait(60) == 75
    assert "run the same command to continue" in process.communicate()[1]
    assert not (tmp_path / "base").exists()
    assert start(recipe, tmp_path / "base").wait(120) == 0
    assert content_hash(tmp_path / "base") == content_hash(whole)
    assert losses(tmp_path / "base") == losses(whole)
    assert not (tmp_path / "base.run").exists()


def test_killed_at_ten_random_moments_it_ends_with_the_same_weights(
    recipe: Path, whole: Path, tmp_path: Path
) -> None:
    draw = random.Random(7)
    killed_in_training = 0
    for kill in range(KILLS):
        before = newest_state(tmp_path / "base.run")
        process = start(recipe, tmp_path / "base")
        if kill % 3 == 0:  # while it starts, loads or takes its first steps
            time.sleep(draw.uniform(0.02, 0.5))
        else:
            wait_for_state(tmp_path / "base.run", process, than=before)
            time.sleep(draw.uniform(0, 0.2))
        killed_in_training += process.poll() is None and kill % 3 != 0
        process.kill()
        process.wait()
    assert killed_in_training >= 4, "too few kills came in the middle of training to prove anything"
    assert start(recipe, tmp_path / "base").wait(120) == 0
    assert content_hash(tmp_path / "base") == content_hash(whole)
    assert losses(tmp_path / "base") == losses(whole)


def test_another_command_does_not_continue_a_run(recipe: Path, settings: Settings, tmp_path: Path) -> None:
    process = start(recipe, tmp_path / "base")
    wait_for_state(tmp_path / "base.run", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(settings | {"tokens": STEPS * 4 * 32, "learning_rate": 1e-3}))
    process = start(other, tmp_path / "base")
    assert process.wait(60) == 2
    assert "learning_rate" in process.communicate()[1]


def test_a_damaged_state_is_said_and_not_used(recipe: Path, tmp_path: Path) -> None:
    process = start(recipe, tmp_path / "base")
    wait_for_state(tmp_path / "base.run", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 75
    (state,) = (tmp_path / "base.run").glob("step-*")
    (weights,) = state.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    process = start(recipe, tmp_path / "base")
    assert process.wait(60) == 3
    assert state.name in process.communicate()[1]
