"""The demo's make targets depend on what their recipes read, on all of it and on nothing else. No stage is run here."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from nano2cli.recipe import load_recipe
from nano2cli.registry import find_command
from stages.common.inputs import find_inputs
from stages.common.stage import load_target

ROOT = Path(__file__).parents[4]
RECIPES = ROOT / "recipes" / "demo"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem != "eval")


class Demo:
    """A folder in which every artifact of the chain seems to be made."""

    def __init__(self, folder: Path) -> None:
        self.artifacts, self.recipes = folder / "demo", folder / "recipes"
        shutil.copytree(RECIPES, self.recipes)
        self.settings = [
            *(f"DEMO={self.artifacts}", f"RECIPES={self.recipes}", f"REPORT={folder / 'report.html'}"),
            f"SETUP={folder / 'installed'}",
        ]
        made = self.made("chain")
        made += [folder / "report.html", folder / "installed"]
        for path in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self.now = 2e9
        for path in made:
            os.utime(path, (self.now, self.now))

    def dry_run(self, target: str) -> str:
        """What make would do."""
        done = subprocess.run(
            ["make", "-n", "--no-print-directory", *self.settings, target],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def made(self, target: str) -> list[Path]:
        """The files that make would make."""
        text = self.dry_run(target)
        stages = [
            Path(out) / "nano2.json" for out in re.findall(r"^\S*nano2 .* -o (\S+) --overwrite$", text, re.M)
        ]
        others = [Path(out) for out in re.findall(r"(\S+\.json)$", text, re.M) if "overwrite" not in out]
        return [*stages, *others]

    def remade(self, touched: Path) -> set[str]:
        """Names of the artifacts that would be made again if a file were newer."""
        os.utime(touched, (self.now + 10, self.now + 10))
        try:
            return {path.parent.name for path in self.made("chain") if path.name == "nano2.json"}
        finally:
            os.utime(touched, (self.now, self.now))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo(tmp_path_factory.mktemp("demo"))


def reads(name: str) -> set[str]:
    """The artifacts that a recipe names."""
    path = RECIPES / f"{name}.yaml"
    stage = yaml.safe_load(path.read_text())["stage"]
    command = find_command(stage)
    assert command is not None
    config = load_target(command.target).config
    inputs = find_inputs(config.model_validate(load_recipe(path, stage, set(config.model_fields)).settings))
    paths = [item.path.parts for item in inputs if item.path.parts[:2] == ("artifacts", "demo")]
    return {parts[2] for parts in paths}


def made_from(changed: str) -> set[str]:
    """An artifact and all that is made from it, but for evaluations."""
    found = {changed}
    while more := {name for name in NAMES if reads(name) & found} - found:
        found |= more
    return found


def test_nothing_is_done_twice(demo: Demo) -> None:
    assert demo.made("chain") == []
    assert "Nothing to be done" in demo.dry_run("chain")


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_recipe_makes_again_what_reads_its_artifact(demo: Demo, name: str) -> None:
    remade = demo.remade(demo.recipes / f"{name}.yaml")
    changed = made_from(name)
    all_evaluations = {path.parent.name for path in demo.artifacts.glob("*-eval/nano2.json")}
    asked_anew = {"errands", "instructions"} & changed
    evaluations = all_evaluations if asked_anew else all_evaluations & {f"{each}-eval" for each in changed}
    assert remade == changed | evaluations


def test_every_recipe_has_its_target_and_every_target_its_recipe(demo: Demo) -> None:
    made = {path.parent.name for path in demo.artifacts.glob("*/nano2.json")}
    assert {name for name in made if not name.endswith("-eval")} == set(NAMES)
    evaluated = {name.removesuffix("-eval") for name in made if name.endswith("-eval")}
    assert evaluated <= set(NAMES)
    assert "merged" in evaluated
