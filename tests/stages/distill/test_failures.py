"""A distillation that is killed, that two runs write at once, and models that are damaged."""

import math
import shutil
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from model.artifact.hashing import content_hash
from model.errors import ArtifactError, UsageError
from tests.forked import Forked
from tests.stages.distill.conftest import SEQ_LEN
from tests.stages.distill.helpers import Settings, distill


def start(settings: Settings, folder: Path) -> Forked:
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(settings))
    return Forked("distill", "--config", recipe, "-o", folder / "out")


def test_killed_while_it_trains_and_asked_for_twice(settings: Settings, tmp_path: Path) -> None:
    """It continues from the state that was saved, to the same model."""
    settings |= {"tokens": 40 * 4 * SEQ_LEN, "save_seconds": 0}
    distill(settings, tmp_path / "whole")
    process = start(settings, tmp_path)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out.run").glob("step-*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    with pytest.raises(UsageError, match="is being written by another run"):
        distill(settings, tmp_path / "out")
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    distill(settings, tmp_path / "out")
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "whole")
    assert not (tmp_path / "out.run").exists()


@pytest.mark.parametrize("role", ["model", "teacher"])
def test_a_model_that_is_cut_short_or_has_a_nan(settings: Settings, tmp_path: Path, role: str) -> None:
    whole = Path(settings[role])
    tensors = load_file(whole / "model.safetensors")
    name = "lm_head.weight"
    for number, damage in enumerate(
        (
            lambda path: path.write_bytes((whole / "model.safetensors").read_bytes()[:-100]),
            lambda path: save_file(tensors | {name: tensors[name] * math.nan}, path, {"format": "pt"}),
        )
    ):
        damaged = Path(shutil.copytree(whole, tmp_path / f"damaged-{number}"))
        (damaged / "nano2.json").unlink(missing_ok=True)  # its hashes would say it before
        damage(damaged / "model.safetensors")
        with pytest.raises(ArtifactError, match="cut short" if number == 0 else "NaN or infinite"):
            distill(settings | {role: str(damaged)}, tmp_path / "out")
        assert not (tmp_path / "out").exists()
