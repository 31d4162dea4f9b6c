"""Every field is a flag; defaults < recipe < flags; a bad value is one clear message."""

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, model_validator

from model.errors import UsageError
from nano2cli.settings import build_config
from stages.common.config import InputPath, Positional, StageConfig
from stages.common.stage import Stage
from tests.nano2cli.conftest import Nano2


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "nano2.json").read_text())["config"]


def test_the_help_page_shows_every_flag(nano2: Nano2) -> None:
    page = nano2("toy", "--help").stdout
    lines = {line.split()[1]: line for line in page.splitlines() if line.startswith("│ --")}
    assert set(lines) == {
        "--model", "--data", "--steps", "--learning-rate", "--schedule", "--group", "--precision", "--clip", "--workers",
        "--shape", "--extras", "--tags", "--tie", "--memory", "--seed", "--log-every", "--delay", "--fail",
        "--help", "--out", "--config", "--plan", "--overwrite", "--keep-run", "--json", "--debug",
    }  # fmt: skip
    assert "-m" in lines["--model"]
    assert "-d" in lines["--data"]
    assert "PATH[:WEIGHT]" in lines["--data"]
    assert "-o" in lines["--out"]
    assert "wsd|cosine" in lines["--schedule"]
    assert "bf16|fp32" in lines["--precision"]
    assert "--no-tie" in lines["--tie"]
    assert "KEY=VALUE" in lines["--shape"]
    assert "[default: 5; > 0]" in lines["--steps"]
    assert "Peak rate [in brackets]. [default: 0.001; > 0]" in lines["--learning-rate"]
    assert "1.0 MiB" in page
    assert "─ Optimizer ─" in page
    assert "Stands in for a training stage." in page


def test_flags_that_make_no_sense_are_not_there(nano2: Nano2) -> None:
    page = nano2("show", "--help").stdout
    assert not [flag for flag in ("--out", "--overwrite", "--keep-run", "--plan") if flag in page]
    assert "--keep-run" not in nano2("simple", "--help").stdout


def test_every_kind_of_value(nano2: Nano2, tmp_path: Path) -> None:
    (tmp_path / "a:1").write_text("a")
    ran = nano2(
        "toy", "-o", "out", "-d", "a:1", "-d", "a:1:2", "--steps", "0.01k", "--learning-rate", "5e-4", "--schedule",
        "cosine", "--group", "8", "--precision", "bf16", "--clip", "none", "--workers", "3", "--shape", "d=4", "--shape",
        "e=5", "--extras", "f=1e-3", "--extras", "g=x=y", "--tags", "x", "--tags", "7", "--tie", "--memory", "1.5MiB",
        "--seed", "-2",
    )  # fmt: skip
    assert ran.code == 0, ran.stderr
    config = config_of(tmp_path)
    assert [(item["path"], item["weight"]) for item in config.pop("data")] == [("a:1", 1.0), ("a:1", 2.0)]
    assert config == {
        "model": None, "steps": 10, "learning_rate": 5e-4, "schedule": "cosine", "group": 8, "precision": "bf16",
        "clip": None, "workers": 3, "shape": {"d": 4, "e": 5}, "extras": {"f": 0.001, "g": "x=y"}, "tags": ["x", "7"],
        "tie": True, "memory": 1572864, "seed": -2, "log_every": 10, "delay": 0.0, "fail": "",
    }  # fmt: skip


RECIPE = """
stage: toy
steps: 2k
learning_rate: 1e-2
shape: {d: 1, e: 2}
tags: [a, b]
tie: true
clip: 2
workers: auto
"""


def test_a_recipe_over_defaults_and_flags_over_a_recipe(nano2: Nano2, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    ran = nano2(
        "toy", "--config", "recipe.yaml", "-o", "out", "--steps", "3", "--shape", "e=9", "--tags", "c", "--no-tie",
        "--clip", "none",
    )  # fmt: skip
    assert ran.code == 0, ran.stderr
    config = config_of(tmp_path)
    assert config["learning_rate"] == 0.01
    assert config["steps"] == 3
    assert config["shape"] == {"d": 1, "e": 9}
    assert config["tags"] == ["c"]
    assert config["tie"] is False
    assert config["clip"] is None
    assert config["schedule"] == "wsd"


@pytest.mark.parametrize(
    ("arguments", "what", "where"),
    [
        (["--steps", "many"], "'many' is not a count", "--steps"),
        (["--steps", "0"], "0 must be greater than 0", "--steps"),
        (["--steps", "1.5"], "'1.5' is not a whole number", "--steps"),
        (["--learning-rate", "fast"], "'fast' is not a number", "--learning-rate"),
        (["--learning-rate", "nan"], "not a finite number", "--learning-rate"),
        (["--seed", "1.5"], "'1.5' is not a whole number", "--seed"),
        (["--schedule", "cosin"], "'cosin' is not one of wsd, cosine; did you mean 'cosine'?", "--schedule"),
        (["--precision", "fp8"], "'fp8' is not one of bf16, fp32", "--precision"),
        (["--group", "2"], "'2' is not one of 1, 8", "--group"),
        (["--memory", "lots"], "'lots' is not a byte size", "--memory"),
        (["--shape", "d"], "'d' is not KEY=VALUE", "--shape"),
        (["--shape", "d=x"], "'x' is not a whole number", "--shape (d)"),
        (["-d", "a:-1"], "must be a positive number", "--data (0)"),
        (["--workers", "few"], "'few'", "--workers"),
        (["--steps", "x", "--seed", "y"], "also wrong: --seed", "--steps"),
        (["--stepz", "3"], "No such option: --stepz; did you mean '--steps'?", "nano2 toy"),
        (["--steps"], "requires an argument", "nano2"),
        (["stray"], "unexpected extra argument", "nano2 toy"),
        (["--tie=yes"], "--tie", "nano2"),
    ],
)
def test_a_bad_flag_is_one_message(
    nano2: Nano2, tmp_path: Path, arguments: list[str], what: str, where: str
) -> None:
    ran = nano2("toy", "-o", "out", "--json", *arguments)
    assert ran.code == 2
    assert what in ran.error["what"]
    assert ran.error["where"].startswith(where)
    assert ran.error["remedy"]
    assert len(ran.stderr.splitlines()) <= 5
    assert "Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "what", "where"),
    [
        ("steps: true", "true is not a value", "line 1, key 'steps'"),
        ("\nseed: abc", "'abc' is not a whole number", "line 2, key 'seed'"),
        ("tags: word", "'word' is not a list", "line 1, key 'tags'"),
        ("tags: [1]", "1 is not text (in a recipe, put it in quotes)", "key 'tags' (0)"),
        ("shape: 3", "3 is not a mapping", "key 'shape'"),
        ("tie: maybe", "'maybe' is not true or false", "key 'tie'"),
        ("clip: .inf", "inf is not a finite number", "key 'clip'"),
        ("data: [{path: a, wait: 2}]", "'wait' is not a setting here", "key 'data' (0"),
        ("stepz: 2", "did you mean 'steps'?", "line 1, key 'stepz'"),
        ("out: x", "is not a setting of 'toy'", "key 'out'"),
        ("stage: sft", "the recipe is for 'sft'", "key 'stage'"),
    ],
)
def test_a_bad_recipe_value_is_one_message(
    nano2: Nano2, tmp_path: Path, recipe: str, what: str, where: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe)
    ran = nano2("toy", "-o", "out", "--json", "--config", "recipe.yaml")
    assert ran.code == 2
    assert what in ran.error["what"]
    assert ran.error["where"].startswith("recipe.yaml")
    assert where in ran.error["where"]
    assert len(ran.stderr.splitlines()) <= 5


@pytest.mark.parametrize(
    ("arguments", "what", "where"),
    [
        (["compare", "one"], "2 or more are needed", "EVALUATIONS"),
        (["eval", "-m", "x", "--tasks", ",", "-o", "out"], "1 or more are needed", "--tasks"),
        (["eval", "-m", "x", "--tasks", "a", "--think-end", "", "-o", "out"], "'' is empty", "--think-end"),
    ],
)
def test_too_few_and_too_short(nano2: Nano2, arguments: list[str], what: str, where: str) -> None:
    ran = nano2(*arguments, "--json")
    assert ran.code == 2
    assert what in ran.error["what"]
    assert ran.error["where"] == where


def test_a_missing_output_and_a_missing_recipe(nano2: Nano2) -> None:
    ran = nano2("toy")
    assert ran.code == 2
    assert "-o" in ran.stderr
    assert nano2("toy", "-o", "out", "--config", "gone.yaml").code == 2


def test_a_positional_argument_takes_no_flag(nano2: Nano2) -> None:
    ran = nano2("schema", "data", "nothing", "--json")
    assert ran.code == 2
    assert "no command 'data nothing'" in ran.error["what"]


class Nested(BaseModel, extra="forbid"):
    beta: float
    steps: int = 1


class Strict(StageConfig):
    """A config with what the toy lacks: required fields, a nested model, a rule about two fields."""

    directory: Annotated[InputPath, Positional()]
    name: str
    nested: Nested | None = None
    low: int = 0
    high: int = Field(1, description="Above low.")

    @model_validator(mode="after")
    def _ordered(self) -> "Strict":
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


STRICT = Stage(name="strict", kind=None, config=Strict, run="")


@pytest.mark.parametrize(
    ("flags", "what", "where"),
    [
        ({}, "DIRECTORY, --name are required", "nano2 strict"),
        ({"directory": "x"}, "--name is required", "nano2 strict"),
        ({"directory": "x", "name": "y", "low": "3"}, "low (3) must be below high (1)", "nano2 strict"),
        (
            {"directory": "x", "name": "y", "nested": ["beta=fast"]},
            "'fast' is not a number",
            "--nested (beta)",
        ),
        ({"directory": "x", "name": "y", "nested": ["steps=2"]}, "'beta' is missing", "--nested"),
        (
            {"directory": "x", "name": "y", "nested": ["beta=1", "bta=2"]},
            "'bta' is not a setting",
            "--nested (bta)",
        ),
        ({"directory": "x", "name": "y", "low": "9" * 500 + "x"}, " is not a whole number", "--low"),
    ],
)
def test_required_nested_and_related_settings(flags: dict[str, Any], what: str, where: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_config(STRICT, None, flags)
    assert what in caught.value.what
    assert caught.value.where == where
    assert len(caught.value.what) < 200


def test_a_nested_model_is_laid_over_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("directory: d\nname: n\nnested: {beta: 0.5, steps: 7}")
    config = build_config(STRICT, tmp_path / "recipe.yaml", {"nested": ["beta=0.25"]})
    assert config.model_dump(mode="json")["nested"] == {"beta": 0.25, "steps": 7}
