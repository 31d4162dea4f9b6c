"""Every recipe in recipes/ is one that its command takes."""

from pathlib import Path

import pytest
import yaml

from nano2cli.recipe import load_recipe
from nano2cli.registry import find_command
from stages.common.experiments.running import all_settings
from stages.common.experiments.spec import read_experiment
from stages.common.stage import load_target

RECIPES = Path(__file__).parents[2] / "recipes"
STAGE_RECIPES = sorted(path for path in RECIPES.glob("*/*.yaml") if path.parent.name != "experiments")


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
