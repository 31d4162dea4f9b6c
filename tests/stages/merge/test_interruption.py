"""A merge that is killed or interrupted while it writes leaves nothing that could be taken for a model."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from model.artifact.hashing import content_hash
from model.errors import UsageError
from tests.forked import Forked
from tests.stages.merge.helpers import make_model, merge


@pytest.fixture(scope="module")
def large(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Models whose merge takes some seconds."""
    folder = tmp_path_factory.mktemp("models")
    shape = {"hidden_size": 512, "intermediate_size": 10_000}
    one, other = (make_model(folder / str(seed), tokenizer_directory, seed, **shape) for seed in (0, 1))
    return one, other


def start(models: tuple[Path, Path], out: Path) -> Forked:
    return Forked("merge", "--method", "slerp", "-o", out, "--json", "-m", models[0], "-m", models[1])


def wait_until_it_writes(folder: Path, process: Forked) -> None:
    """What a killed one has left does not count."""
    deadline = time.monotonic() + 90
    pattern = f"out.tmp-{process.pid}_*/model.safetensors"
    while not any(path.stat().st_size > 1_000_000 for path in folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_then_interrupted_then_done(large: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(large, out)
    wait_until_it_writes(tmp_path, process)
    with pytest.raises(UsageError, match="is being written by another run"):
        merge(out, *large, method="slerp")
    process.kill()
    process.communicate()
    assert not out.exists()

    process = start(large, out)
    wait_until_it_writes(tmp_path, process)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert json.loads(stdout.splitlines()[-1])["error"]["remedy"] == "run the same command to continue"
    assert os.listdir(tmp_path) == []

    merge(out, *large, method="slerp")
    merge(tmp_path / "again", *large, method="slerp")
    assert content_hash(out) == content_hash(tmp_path / "again")
    assert sorted(os.listdir(tmp_path)) == ["again", "out"]
