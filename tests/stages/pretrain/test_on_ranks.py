"""A run on several ranks: the run of one process to rounding, the same bits on the same mesh, and continued on any other."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.artifact.provenance import read_provenance
from model.errors import InterruptedRunError, UsageError
from model.loading import load
from nano2cli.commands.doctor import STAGE as DOCTOR
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.data.stage import SYNTH
from stages.pretrain.stage import STAGE
from tests.nano2cli.conftest import ENVIRONMENT
from tests.ranks import run_ranks

Settings = dict[str, Any]
MESHES = {"data": (2, 1, 1), "context": (2, 2, 1), "tensor": (2, 1, 2), "context and tensor": (4, 2, 2)}
"""Ranks, context, tensor."""

SHAPE = {"n_groups": 2, "num_key_value_heads": 2}


def run(out: Path, settings: Settings) -> StageOutcome:
    return run_stage(
        STAGE,
        STAGE.config.model_validate(settings | {"shape": SHAPE}),
        out=out,
        reporter=QuietReporter(),
        command=["nano2", "pretrain"],
    )


def run_and_signal(out: Path, settings: Settings, number: int, rank: int) -> None:
    """The signal comes to one rank once it has saved a new state."""
    if int(os.environ["RANK"]) == rank:
        threading.Thread(target=send, args=(out, states(out), number), daemon=True).start()
    run(out, settings)


def states(out: Path) -> set[str]:
    return {path.name for path in out.with_name(f"{out.name}.run").glob("step-*")}


def send(out: Path, before: set[str], number: int) -> None:
    while states(out) <= before:
        time.sleep(0.002)
    os.kill(os.getpid(), number)


def on_mesh(name: str, settings: Settings) -> tuple[int, Settings]:
    ranks, context, tensor = MESHES[name]
    return ranks, settings | {"context_parallel": context, "tensor_parallel": tensor}


def logged(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(out: Path, other: Path, tolerance: float = 1e-6) -> None:
    """The same rows in the same steps, losses within `tolerance`."""
    lines, expected = logged(out), logged(other)
    assert [line.get("tokens") for line in lines] == [line.get("tokens") for line in expected]
    for line, wanted in zip(lines, expected, strict=True):
        for figure in ("loss", "validation_loss"):
            assert line.get(figure, 0) == pytest.approx(wanted.get(figure, 0), rel=tolerance)


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.stages.pretrain.conftest import twelve_steps

    out: Path = tmp_path_factory.mktemp("alone") / "out"
    run(out, twelve_steps(dataset) | {"validate_first": True})
    return out


@pytest.mark.parametrize("mesh", list(MESHES))
def test_a_mesh_trains_as_one_process(mesh: str, settings: Settings, alone: Path, tmp_path: Path) -> None:
    ranks, settings = on_mesh(mesh, settings | {"validate_first": True})
    run_ranks(ranks, run, tmp_path / "out", settings)
    assert_same_run(tmp_path / "out", alone)
    assert load(tmp_path / "out").config == load(alone).config
    provenance = read_provenance(tmp_path / "out")
    assert provenance is not None
    assert provenance.device["ranks"] == ranks
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_in_bfloat16_the_blocks_matrices_are_gathered_so(settings: Settings, tmp_path: Path) -> None:
    settings |= {"precision": "bfloat16"}
    run(tmp_path / "alone", settings)
    run_ranks(2, run, tmp_path / "out", settings)
    assert_same_run(tmp_path / "out", tmp_path / "alone", tolerance=1e-3)


def test_the_same_mesh_makes_the_same_bits(settings: Settings, tmp_path: Path) -> None:
    ranks, settings = on_mesh("data", settings)
    for name in ("a", "b"):
        run_ranks(ranks, run, tmp_path / name, settings)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    outcomes = run_ranks(ranks, run, tmp_path / "b", settings)
    assert all(outcome.up_to_date for outcome in outcomes)


def test_interrupted_it_goes_on_with_other_ranks(settings: Settings, alone: Path, tmp_path: Path) -> None:
    """From two to one to four ranks and four others; a signal to any rank ends all."""
    out, settings = tmp_path / "out", settings | {"save_seconds": 0, "validate_first": True}
    for ranks, rank, changed in ((2, 1, {}), (1, 0, {}), (4, 3, {"context_parallel": 2, "micro_batch": 1})):
        with pytest.raises(InterruptedRunError, match="the state is saved"):
            run_ranks(ranks, run_and_signal, out, settings | changed, signal.SIGTERM, rank)
    run_ranks(4, run, out, settings | {"tensor_parallel": 2})
    assert_same_run(out, alone)


def test_a_rank_that_is_killed_ends_the_others_and_loses_nothing(
    settings: Settings, alone: Path, tmp_path: Path
) -> None:
    out, settings = tmp_path / "out", settings | {"save_seconds": 0, "validate_first": True}
    started = time.monotonic()
    with pytest.raises((InterruptedRunError, RuntimeError), match=r"lost another one|was killed"):
        run_ranks(2, run_and_signal, out, settings, signal.SIGKILL, 1)
    assert time.monotonic() - started < 60
    run_ranks(2, run, out, settings)
    assert_same_run(out, alone)


def synthesize(out: Path) -> None:
    run_stage(
        SYNTH,
        SYNTH.config.model_validate({"train": 10}),
        out=out,
        reporter=QuietReporter(),
        command=["nano2"],
    )


def show() -> None:
    run_stage(DOCTOR, DOCTOR.config(), out=None, reporter=QuietReporter(), command=["nano2"])


def test_a_command_without_an_artifact_says_so_too() -> None:
    with pytest.raises(UsageError, match="nano2 doctor runs in one process, and torchrun started 2"):
        run_ranks(2, show)


def test_a_stage_of_one_process_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nano2 data synth runs in one process, and torchrun started 2"):
        run_ranks(2, synthesize, tmp_path / "out")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_torchrun_starts_it_and_replay_starts_torchrun(settings: Settings, tmp_path: Path) -> None:
    """The whole way: a command of two processes, one result on stdout, and the same content by `nano2 replay --run`."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(settings | {"shape": SHAPE}))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "nano2cli"]
    command = [*launcher, "pretrain", "--config", str(recipe), "-o", str(tmp_path / "out"), "--json"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["status"] == "done"
    again = ["replay", str(tmp_path / "out"), "--run", "--into", str(tmp_path / "again")]
    replay = subprocess.run(
        [sys.executable, "-m", "nano2cli", *again], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert replay.returncode == 0, replay.stderr[-2000:]
    assert "mesh of ranks: data 2, context 1, tensor 1" in replay.stderr
