"""The commands that rebuild an artifact."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.artifact.provenance import Provenance, read_provenance
from model.artifact.replay import ReplayStep, first_differing_file, replay_commands, replay_script
from model.errors import ArtifactError
from nano2cli.recipe import load_recipe
from tests.model.artifact.chain import make, make_chain


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return make_chain(tmp_path / "tree")


def test_parents_first_each_once(tuned: Path, tmp_path: Path) -> None:
    into = tmp_path / "again"
    steps = replay_commands(tuned, into=into)
    assert [step.out for step in steps] == [into / "tokenizer", into / "base", into / "tuned"]
    assert [step.arguments for step in steps] == [
        ["data", "tokenizer", "--config", f"{into}/tokenizer.yaml", "-o", f"{into}/tokenizer"],
        ["pretrain", "--config", f"{into}/base.yaml", "-o", f"{into}/base"],
        ["sft", "--config", f"{into}/tuned.yaml", "-o", f"{into}/tuned"],
    ]
    text = str(tuned.parents[1] / "data" / "text.txt")
    assert [step.recipe for step in steps] == [
        {"seed": 0, "note": "1e-3", "data": [{"path": text, "weight": 2.0}]},
        {"seed": 1, "note": "1e-3", "tokenizer": f"{into}/tokenizer", "data": text},
        {"seed": 2, "note": "1e-3", "model": f"{into}/base", "tokenizer": f"{into}/tokenizer"},
    ]
    assert all(int(step.environment["OMP_NUM_THREADS"]) >= 1 for step in steps)


@pytest.mark.usefixtures("tuned")
def test_moved_tree(tmp_path: Path) -> None:
    shutil.move(tmp_path / "tree", tmp_path / "elsewhere")
    steps = replay_commands(tmp_path / "elsewhere" / "artifacts" / "tuned", into=tmp_path / "again")
    assert steps[0].recipe["data"][0]["path"] == str(tmp_path / "elsewhere" / "data" / "text.txt")


def test_relative_folder_is_made_absolute(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert replay_commands(tuned, into=Path("again"))[0].out == tmp_path / "again" / "tokenizer"


def test_same_names_get_numbers(tmp_path: Path) -> None:
    first = make(tmp_path / "a" / "model", "model", "pretrain", {}, seed=1)
    second = make(tmp_path / "b" / "model", "model", "pretrain", {}, seed=2)
    third = make(tmp_path / "c" / "model", "model", "merge", {"one": first, "two": second}, seed=3)
    steps = replay_commands(third, into=tmp_path / "again")
    assert [step.out.name for step in steps] == ["model", "model-2", "model-3"]
    assert steps[2].recipe["two"] == str(tmp_path / "again" / "model-2")


def test_foreign_checkpoint_is_used_where_it_lies(tmp_path: Path) -> None:
    foreign = tmp_path / "released"
    shutil.copytree(make(tmp_path / "source", "model", "pretrain", {}), foreign)
    (foreign / "nano2.json").unlink()
    shutil.rmtree(tmp_path / "source")
    tuned = make(tmp_path / "tuned", "model", "sft", {"model": foreign}, seed=2)
    (step,) = replay_commands(tuned, into=tmp_path / "again")
    assert step.recipe["model"] == str(foreign)
    with pytest.raises(ArtifactError, match="nano2 did not make it"):
        replay_commands(foreign, into=tmp_path / "again")


def test_a_file_within_an_artifact_is_made_again_with_it(tmp_path: Path) -> None:
    problems = make(tmp_path / "problems", "dataset", "data synth", {})
    tuned = make(tmp_path / "tuned", "model", "sft", {"data": problems / "dataset.json"}, seed=2)
    into = tmp_path / "again"
    made, tuning = replay_commands(tuned, into=into)
    assert (made.original.stage, made.out) == ("data synth", into / "problems")
    assert tuning.recipe["data"] == f"{into}/problems/dataset.json"


@pytest.mark.parametrize("how", ["missing", "changed"])
def test_input_that_is_not_there(tuned: Path, tmp_path: Path, how: str) -> None:
    text = tuned.parents[1] / "data" / "text.txt"
    text.write_text("other") if how == "changed" else text.unlink()
    with pytest.raises(ArtifactError, match=rf"text\.txt \(data [0-9a-f]{{12}}\) is {how}") as caught:
        replay_commands(tuned, into=tmp_path / "again")
    assert "tokenizer" in str(caught.value)


def test_script_is_shell_that_writes_the_recipes(tuned: Path, tmp_path: Path) -> None:
    into = tmp_path / "it's a 'folder' $HOME"
    steps = replay_commands(tuned, into=into)
    script = replay_script(steps)
    # `nano2` only says what it was called with
    spy = tmp_path / "bin" / "nano2"
    spy.parent.mkdir()
    spy.write_text('#!/bin/sh\nprintf "%s\\n" "$OMP_NUM_THREADS" "$@"\n')
    spy.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": f"{spy.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [word for step in steps for word in (step.environment["OMP_NUM_THREADS"], *step.arguments)]
    assert done.stdout.splitlines() == expected
    for step in steps:
        assert step.recipe_file.read_text() == step.recipe_text
        recipe = load_recipe(step.recipe_file, step.original.stage, set(step.recipe))
        assert recipe.settings == step.recipe


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(values)
def test_any_setting_comes_back_from_the_recipe(value: Any) -> None:
    """Strings that look like numbers, line separators, control characters, floats of any size."""
    step = ReplayStep(Path("out"), {"setting": value}, Provenance(kind="model", stage="pretrain"))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "recipe.yaml")
        path.write_bytes(step.recipe_text.encode())
        assert load_recipe(path, "pretrain", {"setting"}).settings == {"setting": value}
    assert "\nRECIPE\n" not in step.recipe_text


def test_first_differing_file(tmp_path: Path) -> None:
    one = read_provenance(make(tmp_path / "one", "model", "pretrain", {}, seed=1))
    two = read_provenance(make(tmp_path / "two", "model", "pretrain", {}, seed=2))
    three = read_provenance(make(tmp_path / "three", "tokenizer", "pretrain", {}))
    assert one is not None
    assert two is not None
    assert three is not None
    assert first_differing_file(one, one) is None
    assert first_differing_file(one, two) == "model.safetensors"
    assert first_differing_file(one, three) == "config.json"
