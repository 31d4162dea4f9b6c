"""Every recipe in recipes/ is one that its command takes, reads what another makes, and can be planned before any is run."""

import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from nano2cli.plan_chain import chain_commands, parse_command
from nano2cli.recipe import load_recipe
from nano2cli.registry import find_command
from stages.common.config import StageConfig
from stages.common.experiments.running import all_settings
from stages.common.experiments.spec import read_experiment
from stages.common.inputs import find_inputs
from stages.common.stage import Stage, load_target

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
STAGE_RECIPES = sorted(path for path in RECIPES.glob("*/*.yaml") if path.parent.name != "experiments")

CHAINS = [path for path in STAGE_RECIPES if path.parent.name in ("cpu", "demo", "nano2")]

CHAIN = RECIPES / "nano2" / "chain.sh"

BROUGHT = {
    "data/text-sample",
    *(f"data/text/crawl-{kind}" for kind in ("medium", "medium-high", "high", "synthetic")),
    *(f"data/text/{name}" for name in ("wikipedia", "multilingual", "academic", "math", "code")),
    *(f"data/text/sft-{kind}" for kind in ("stem", "code", "general", "reasoning")),
    *(f"data/sft/{domain}" for domain in ("math", "code", "science", "tools", "chat", "safety")),
    *("data/sft/multilingual", "data/sft/long"),
    *("data/rl/lmsys-ifeval.jsonl", "data/rl/helpsteer3-english.jsonl"),
    "helpsteer3_preference_train.jsonl",
}
"""What only a user can bring."""


def commands(path: Path) -> list[list[str]]:
    """The commands in the comments of a recipe, some on two lines."""
    comments = "\n".join(re.findall(r"^# ?(.*)", path.read_text(), re.M))
    return [shlex.split(line) for line in re.findall(r"^  (nano2 .*(?:\n    .*)*)", comments, re.M)]


def values(command: list[str], *flags: str) -> list[str]:
    return [value for flag, value in pairwise(command) if flag in flags]


@cache
def made() -> set[str]:
    return {out for path in CHAINS for command in commands(path) for out in values(command, "-o")}


def stage_and_config(path: Path, **flags: object) -> tuple[Stage, StageConfig]:
    name = yaml.safe_load(path.read_text())["stage"]
    command = find_command(name)
    assert command is not None
    stage = load_target(command.target)
    settings = load_recipe(path, name, set(stage.config.model_fields)).settings
    return stage, stage.config.model_validate(settings | flags)


def is_there(name: str) -> bool:
    """In the repository, brought, or made: as a whole, or as a file of what is made."""
    return (
        name in BROUGHT
        or (ROOT / name).exists()
        or not made().isdisjoint({name, *map(str, Path(name).parents)})
    )


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_a_recipe_reads_is_made_by_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    read = [str(item.path) for item in find_inputs(stage_and_config(path)[1])]
    for command in commands(path):
        read += values(command, "-m", "-d", "--tokenizer")
    assert [name for name in read if not is_there(name)] == []


def test_what_is_brought_is_read() -> None:
    text = "".join(path.read_text() for path in CHAINS)
    assert [name for name in BROUGHT if name not in text] == []


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recipe_says_how_it_is_run(path: Path) -> None:
    assert any(str(path.relative_to(ROOT)) in command and "-o" in command for command in commands(path))


def runs(path: Path) -> list[list[str]]:
    """The commands that run a recipe as it is, or with another model or length of rows."""
    recipe = str(path.relative_to(ROOT))
    aside = {"--evaluation", "--layers"}  # a comparison that the chain can do without
    return [words for words in commands(path) if recipe in words and "-o" in words and not aside & set(words)]


def test_the_chain_runs_every_recipe_of_the_report_as_it_says() -> None:
    told = [words for path in CHAINS if path.parent.name == "nano2" for words in runs(path)]
    chained = [words for words in chain_commands(CHAIN) if "--config" in words]
    assert sorted(told) == sorted(chained)


def test_the_chain_makes_everything_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    there: set[str] = set()
    for words in chain_commands(CHAIN):
        _, config, flags = parse_command(words)
        read = [str(item.path) for item in find_inputs(config)]
        assert [name for name in read if name not in BROUGHT | there and not (ROOT / name).exists()] == [], (
            words
        )
        there.add(str(flags["out"]))


PLANNED = [
    (path, command)
    for path in CHAINS
    if path.parent.name == "nano2" and not yaml.safe_load(path.read_text())["stage"].startswith("data ")
    for command in commands(path)
    if str(path.relative_to(ROOT)) in command and "-o" in command
]


@pytest.mark.parametrize(
    ("path", "command"), PLANNED, ids=lambda part: part.name if isinstance(part, Path) else part[-1]
)
def test_a_recipe_of_the_report_plans_before_anything_is_there(
    path: Path, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be refused on a machine that is too small, with the memory that it takes."""
    (tmp_path / "evals").symlink_to(ROOT / "evals")
    monkeypatch.chdir(tmp_path)
    models, presets = values(command, "-m"), values(command, "--preset")
    flags: dict[str, object] = {"preset": presets[0]} if presets else {}
    if models:
        flags["model"] = models if len(models) > 1 else models[0]
    stage, config = stage_and_config(path, **flags)
    plan = stage.call_plan(config)
    assert plan is not None
    assert plan.warnings
    billions = {"nano2-12b": 12.310, "nano2-12b-56": 11.386, "nano2-9b": 8.888}
    section = plan.sections.get("Parameters") or plan.sections["Model"]
    total = section.get("total") or section["parameters"]
    assert isinstance(total, int)
    assert round(total / 1e9, 3) == billions[config.model_dump()["preset"]]


@pytest.mark.parametrize("path", STAGE_RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recipe_names_its_stage_and_only_known_settings(path: Path) -> None:
    name = yaml.safe_load(path.read_text())["stage"]
    command = find_command(name)
    assert command is not None
    config = load_target(command.target).config
    config.model_validate(load_recipe(path, name, set(config.model_fields)).settings)


@pytest.mark.parametrize("path", sorted((RECIPES / "experiments").glob("*.yaml")), ids=lambda path: path.name)
def test_an_experiment_names_known_stages_and_settings(path: Path) -> None:
    for run in read_experiment(path).made().values():
        command = find_command(run.stage)
        assert command is not None
        load_target(command.target).config.model_validate(all_settings(run, Path("artifacts")))
