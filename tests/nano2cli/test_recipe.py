"""Recipes: YAML as it is meant, and every way to get it wrong."""

from pathlib import Path

import pytest

from model.errors import UsageError
from nano2cli.recipe import load_recipe, parse_scalar

KNOWN = {"lr", "steps", "name", "shape", "data", "flag"}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lr: 1e-3", 0.001),
        ("lr: 1E6", 1e6),
        ("lr: -.5", -0.5),
        ("steps: 010", 10),
        ("steps: 0x10", 16),
        ("steps: 1:30", "1:30"),
        ("steps: 8k", "8k"),
        ("steps: 1_000", "1_000"),
        ("name: no", "no"),
        ("name: on", "on"),
        ("name: 2024-01-01", "2024-01-01"),
        ("name: 'true'", "true"),
        ("flag: true", True),
        ("name: ~", None),
        ("name:", None),
        ("name: .nan", pytest.approx(float("nan"), nan_ok=True)),
        ("shape: {d: 1, e: {f: 2}}", {"d": 1, "e": {"f": 2}}),
        ("data: [a:1, b]", ["a:1", "b"]),
        ("name: 'ü\\n'", "ü\\n"),
    ],
)
def test_scalars_are_read_as_meant(recipe: Path, text: str, value: object) -> None:
    recipe.write_text(text, encoding="utf-8")
    assert list(load_recipe(recipe, "toy", KNOWN).settings.values()) == [value]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\ufeff", "{}"])
def test_an_empty_recipe_sets_nothing(recipe: Path, text: str) -> None:
    recipe.write_text(text, encoding="utf-8")
    assert load_recipe(recipe, "toy", KNOWN).settings == {}


def test_anchors_and_merge_keys_work(recipe: Path) -> None:
    recipe.write_text("shape: &s {d: 1, e: 2}\ndata: {<<: *s, e: 3}")
    assert load_recipe(recipe, "toy", KNOWN).settings["data"] == {"d": 1, "e": 3}


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("- a\n- b", "not a mapping", "line 1"),
        ("just words", "not a mapping", "line 1"),
        ("lr: 1\nsteps: 2\nlr: 3", "'lr' appears twice", "line 3, column 1"),
        ("shape: {d: 1, d: 2}", "'d' appears twice", "line 1"),
        ("lr: [1, 2", "not valid", "line"),
        ("lr: 1\n\tsteps: 2", "not valid", "line 2"),
        ("lr: *nobody", "undefined alias", "line 1"),
        ("lr: !!python/object/apply:os.system [id]", "could not determine a constructor", "line 1"),
        ("lr: 1\n---\nlr: 2", "not valid", "line 2"),
        ("steps: 1\nlrr: 2", "not a setting of 'toy'; did you mean 'lr'?", "line 2, key 'lrr'"),
        ("7: 2", "not a setting", "'7'"),
        ("learning-rate: 2", "not a setting", "'learning-rate'"),
        ("stage: sft\nlr: 1", "for 'sft', not for 'toy'", "line 1, key 'stage'"),
        ("lr: \x07", "not valid", "recipe.yaml"),
        ("? [a, b]\n: 1", "not valid|not a setting", "recipe.yaml"),
        ("? {a: b}\n: 1", "not valid|not a setting", "recipe.yaml"),
    ],
)
def test_a_bad_recipe_is_one_message_that_says_where(recipe: Path, text: str, what: str, where: str) -> None:
    recipe.write_text(text)
    with pytest.raises(UsageError, match=what.replace("?", "\\?")) as caught:
        load_recipe(recipe, "toy", KNOWN)
    assert str(recipe) in caught.value.where
    assert where in caught.value.where
    assert caught.value.remedy


def test_files_that_cannot_be_read(tmp_path: Path, recipe: Path) -> None:
    recipe.write_bytes(b"name: \xff")
    for path, what in ((recipe, "UTF-8"), (tmp_path / "gone.yaml", "No such file"), (tmp_path, "directory")):
        with pytest.raises(UsageError, match=what):
            load_recipe(path, "toy", KNOWN)


def test_a_recipe_may_name_its_stage(recipe: Path) -> None:
    recipe.write_text("stage: toy\nlr: 1")
    assert load_recipe(recipe, "toy", KNOWN).settings == {"lr": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [("4", 4), ("1e-3", 0.001), ("true", True), ("no", "no"), ("8k", "8k"), ("[1]", "[1]"), ("a: b", "a: b"),
     ("null", None), ("", ""), ("'", "'"), ("&a", "&a"), ("-", "-")],
)  # fmt: skip
def test_a_flag_reads_a_value_as_a_recipe_does(text: str, value: object) -> None:
    assert parse_scalar(text) == value
