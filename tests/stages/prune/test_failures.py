"""Bad input and bad luck: one clear error each, and nothing that was done is lost."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from model.artifact.hashing import content_hash
from model.errors import ArtifactError, PlanRefusedError, UsageError
from model.loading import save
from model.tokenizer import copy_tokenizer
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.forked import Forked
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story
from tests.stages.prune.conftest import one_shape, stories
from tests.stages.prune.test_run import prune

Settings = dict[str, Any]
MLP = "backbone.layers.1.mixer.up_proj.weight"
SEARCH = {"ffn": "48,56", "distill_tokens": 1024, "save_seconds": 0}


def test_a_budget_that_nobody_meets(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(
        PlanRefusedError, match=r"no shape meets the budget; the closest .* more than --parameters 1k"
    ):
        prune(settings | {"ffn": "48,56", "parameters": 1000}, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_a_speedup_that_nobody_reaches_names_the_closest(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(PlanRefusedError, match=r"no shape is 1000 times as fast .* is \d+\.\d\d times"):
        prune(settings | {"ffn": "48,56", "min_speedup": 1000}, tmp_path / "small")
    assert not (tmp_path / "small").exists()
    # what was measured serves the next attempt
    assert {"importance.safetensors", "speeds.json"} <= set(os.listdir(tmp_path / "small.run"))


def test_the_importance_of_another_model(
    settings: Settings, tokenizer_directory: Path, tmp_path: Path
) -> None:
    prune(settings, tmp_path / "small")
    other = tmp_path / "other"
    other.mkdir()
    copy_tokenizer(tokenizer_directory, other)
    save(randomized(miniature("M-M*-", vocab_size=448, hidden_size=48), seed=1), other)
    borrowed = {"model": str(other), "importance": str(tmp_path / "small/prune/importance.safetensors")}
    with pytest.raises(ArtifactError, match="was measured on another model"):
        prune(settings | borrowed, tmp_path / "borrowed")
    assert not (tmp_path / "borrowed").exists()


def test_an_importance_that_ranks_too_few_blocks(settings: Settings, tmp_path: Path) -> None:
    prune(settings, tmp_path / "small")
    known = {"importance": str(tmp_path / "small/prune/importance.safetensors")}
    with pytest.raises(UsageError, match="2 blocks have to go, and the importance ranks only 1"):
        prune(settings | known | {"layers": 3}, tmp_path / "smaller")


def test_too_little_calibration_data(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"100000 calibration samples .* which has \d+") as caught:
        prune(settings | {"samples": 100000}, tmp_path / "small")
    assert "--samples" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_data_of_another_tokenizer(settings: Settings, tmp_path: Path) -> None:
    other = tmp_path / "tokenizer"
    other.mkdir()
    save_tokenizer(train_tokenizer(iter([story(number) for number in range(90, 120)]), 380), other)
    data = stories(tmp_path, other)
    with pytest.raises(UsageError, match="its tokenizer is not the model's"):
        prune(settings | {"data": [str(data)]}, tmp_path / "small")


def test_nothing_held_out_to_compare_by(
    settings: Settings, tokenizer_directory: Path, tmp_path: Path
) -> None:
    data = stories(tmp_path, tokenizer_directory, validation_fraction=0.0)
    with pytest.raises(UsageError, match="no documents were held out"):
        prune(settings | {"data": [str(data)], "ffn": "48,56"}, tmp_path / "search")
    result = prune(settings | {"data": [str(data)]}, tmp_path / "one")
    assert "validation_loss" not in result.metrics


def test_a_model_that_is_cut_short_or_has_a_nan(settings: Settings, model: Path, tmp_path: Path) -> None:
    weights = (model / "model.safetensors").read_bytes()
    tensors = load_file(model / "model.safetensors")
    for name, damage, words in (
        ("short", lambda path: path.write_bytes(weights[:-100]), "cut short"),
        (
            "nan",
            lambda path: save_file(tensors | {MLP: tensors[MLP] * math.nan}, path, {"format": "pt"}),
            MLP,
        ),
    ):
        damaged = Path(shutil.copytree(model, tmp_path / name))
        damage(damaged / "model.safetensors")
        with pytest.raises(ArtifactError, match=re.escape(words)):
            prune(settings | {"model": str(damaged)}, tmp_path / "small")
        assert not (tmp_path / "small").exists()


def start(recipe: Path, out: Path) -> Forked:
    return Forked("prune", "--config", recipe, "-o", out)


@pytest.fixture
def recipe(settings: Settings, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings | SEARCH))
    return path


@pytest.fixture(scope="module")
def uninterrupted(model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content hash of the search's model."""
    out = tmp_path_factory.mktemp("whole") / "small"
    prune(one_shape(model, dataset) | SEARCH, out)
    return content_hash(out)


def wait_for(pattern: str, folder: Path, process: Forked) -> None:
    deadline = time.monotonic() + 300
    while process.poll() is None and not list(folder.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.005)


def test_killed_between_two_trials_the_first_is_not_made_again(
    recipe: Path, uninterrupted: str, tmp_path: Path
) -> None:
    process = start(recipe, tmp_path / "small")
    run_dir = tmp_path / "small.run"
    wait_for("trials/*/distilled", run_dir, process)
    process.kill()
    process.wait()
    assert not (tmp_path / "small").exists()
    (done,) = run_dir.glob("trials/*/distilled/model.safetensors")
    made_at = done.stat().st_mtime_ns
    process = start(recipe, tmp_path / "small")
    wait_for("trials/*/training/step-*", run_dir, process)
    assert done.stat().st_mtime_ns == made_at
    assert process.wait(300) == 0
    assert content_hash(tmp_path / "small") == uninterrupted
    assert not run_dir.exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "moment",
    ["layers.json", "importance.safetensors", "trials/*/cut", "trials/*/training/step-*", "speeds.json"],
)
def test_killed_anywhere_it_ends_with_the_same_model(
    recipe: Path, uninterrupted: str, tmp_path: Path, moment: str
) -> None:
    process = start(recipe, tmp_path / "small")
    wait_for(moment, tmp_path / "small.run", process)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert start(recipe, tmp_path / "small").wait(600) == 0
    assert content_hash(tmp_path / "small") == uninterrupted


def test_a_signal_in_a_trial_saves_it(recipe: Path, tmp_path: Path) -> None:
    process = start(recipe, tmp_path / "small")
    wait_for("trials/*/training/step-*", tmp_path / "small.run", process)
    with pytest.raises(UsageError, match="is being written by another run"):
        prune(yaml.safe_load(recipe.read_text()), tmp_path / "small")
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 75
    assert "run the same command to continue" in process.communicate()[1]
    assert list((tmp_path / "small.run").glob("trials/*/training/step-*"))


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small tmpfs")
@pytest.mark.parametrize("small_disk", ["220k"], indirect=True)
def test_no_room_for_what_is_cut_keeps_the_importance(settings: Settings, small_disk: Path) -> None:
    with pytest.raises(ArtifactError, match="the disk is full"):
        prune(settings, small_disk / "small")
    assert os.listdir(small_disk) == ["small.run"]
    assert "importance.safetensors" in os.listdir(small_disk / "small.run")
    assert not list(small_disk.glob("small.run/trials/*/*"))
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    prune(settings, small_disk / "small")
    assert os.listdir(small_disk) == ["small"]
