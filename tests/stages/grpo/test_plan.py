import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.config import HybridConfig
from model.counting import count_parameters, kv_cache_bytes, ssm_state_bytes
from model.errors import PlanRefusedError
from stages.grpo.plan import plan
from stages.grpo.stage import STAGE
from stages.grpo.steps import learning_rate
from tests.stages.grpo.conftest import Grpo, Settings, question, write

RECIPES = Path(__file__).parents[3] / "recipes"


def test_generation_and_training_are_told_apart(settings: Settings) -> None:
    told = plan(STAGE.config.model_validate(settings | {"resample": 1, "updates": 2, "steps": 5}))
    generation = told.sections["Generation"]
    assert told.sections["Data"]["prompts"] == 7
    assert told.sections["Data"]["batches_of_rollouts"] == 3
    assert generation["episodes"] == 3 * 2 * 4 * 2
    assert generation["tokens_per_episode"] == 8
    assert told.seconds == pytest.approx(float(generation["seconds"]) + float(generation["training_seconds"]))
    assert told.peak_bytes is not None
    assert told.peak_bytes >= int(generation["peak_bytes"])
    assert not told.refusals


def test_the_plan_is_an_upper_bound_of_what_is_sampled(
    settings: Settings, grpo: Grpo, tmp_path: Path
) -> None:
    told = plan(STAGE.config.model_validate(settings))
    grpo(tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    sampled = sum(line["length"] * 8 for line in lines)
    assert (
        0.5 * float(told.sections["Generation"]["tokens"])
        < sampled
        <= float(told.sections["Generation"]["tokens"])
    )


def test_what_memory_does_not_hold_is_refused(settings: Settings, grpo: Grpo, tmp_path: Path) -> None:
    with pytest.raises(PlanRefusedError, match=r"sampling needs .*lower --max-rows"):
        grpo(tmp_path / "out", max_rows=4096, seq_len=1 << 15, max_tokens=1 << 15)
    assert not (tmp_path / "out.run").exists()


def test_the_published_run_can_be_planned(settings: Settings, tmp_path: Path) -> None:
    recipe = yaml.safe_load((RECIPES / "nano2" / "grpo-workbench.yaml").read_text())
    shape = HybridConfig.preset("nano2-9b")
    shutil.copytree(settings["model"], tmp_path / "9b", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "9b" / "config.json").write_text(json.dumps(shape.to_hf(dtype="bfloat16")))
    prompts = write(tmp_path / "p.jsonl", [question(0)])
    recipe |= {"model": str(tmp_path / "9b"), "data": [str(prompts)], "validation": [], "device": "cpu"}
    recipe |= {"kl": 0.01}
    del recipe["stage"]
    told = plan(STAGE.config.model_validate(recipe))
    generation = told.sections["Generation"]
    assert generation["episodes"] == 300 * 64 * 16
    assert generation["ssm_state_bytes"] == ssm_state_bytes(shape, 256)
    assert generation["kv_cache_bytes"] == kv_cache_bytes(shape, 8192, 256, 2)
    assert generation["reference_bytes"] == 6 * count_parameters(shape).total
    assert told.refusals  # by a machine for tests


@pytest.mark.parametrize(
    "name",
    [
        "cpu/grpo",
        "cpu/grpo-desk",
        "cpu/ifeval-rl",
        "cpu/rlhf",
        "nano2/grpo-workbench",
        "nano2/ifeval-rl",
        "nano2/rlhf",
    ],
)
def test_recipes_are_settings_of_the_stage(name: str) -> None:
    recipe: dict[str, Any] = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    assert recipe.pop("stage") == "grpo"
    STAGE.config.model_validate(recipe)


def test_the_learning_rate_rises_and_stays(settings: Settings) -> None:
    rate = learning_rate(STAGE.config.model_validate(settings | {"warmup_steps": 4, "learning_rate": 1.0}))
    assert [rate(step) for step in (1, 2, 4, 5, 6)] == [0.25, 0.5, 1, 1, 1]
