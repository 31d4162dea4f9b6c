import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.errors import ArtifactError
from stages.prune.config import PruneConfig
from stages.prune.plan import plan
from tests.forked import Forked
from tests.nano2cli.conftest import ROOT

RECIPE = yaml.safe_load((ROOT / "recipes/nano2/prune.yaml").read_text())
RECIPE.pop("stage")


def test_the_command_lists_the_candidates_of_the_12b_without_weights(tmp_path: Path) -> None:
    command = ["prune", "--config", ROOT / "recipes/nano2/prune.yaml", "--plan"]
    asked, shown = (Forked(*command, *flags, cwd=tmp_path) for flags in (["--json"], []))
    stdout, _ = asked.communicate()
    made = json.loads(stdout.splitlines()[-1])["plan"]
    named = {(row["layers"], row["hidden"], row["ffn"], row["mamba_heads"]): row for row in made["rows"]}
    assert len(named) == len(made["rows"]) == made["sections"]["Search"]["within_budget"]
    assert (made["sections"]["Search"]["shapes"], len(named)) == (207, 89)  # docs/prune.md says so
    for shape, billions, rank in (
        ((56, 4480, 17920, 112), 8.92, 47),
        ((56, 4480, 15680, 128), 8.89, 48),
        ((56, 4800, 14400, 120), 8.97, 43),
    ):
        row = named[shape]
        assert round(row["params"] / 1e9, 2) == billions
        assert row["memory_gib"] < 19.66
        assert row["tried"]
        assert row["rank"] == rank
    assert max(row["memory_gib"] for row in made["rows"]) <= 19.66
    assert len(made["sections"]["Not among the first by memory"]) == 3
    # If anything refuses, then this machine, and not the search.
    assert all("GiB are needed" in refusal for refusal in made["refusals"])
    assert asked.returncode == (4 if made["refusals"] else 0)

    table, _ = shown.communicate()
    assert "8,888,227,328" in table
    assert f"and {len(made['rows']) - 20} more" in table


def test_without_shapes_given_the_rule_decides() -> None:
    made = plan(PruneConfig.model_validate({key: RECIPE[key] for key in RECIPE if key != "shapes"}))
    assert [row["rank"] for row in made.rows if row["tried"]] == [1, 2, 3]
    assert "Not among the first by memory" not in made.sections


def test_a_config_is_enough(model: Path, tmp_path: Path) -> None:
    shutil.copy(model / "config.json", tmp_path)
    settings: dict[str, Any] = {
        "model": str(tmp_path),
        "data": ["gone"],
        "layers": "3,4",
        "hidden": "32..48:8",
    }
    made = plan(PruneConfig.model_validate(settings))
    assert len(made.rows) == 6
    assert (
        made.sections["Search"]["tried_at_most"] == 2 + 3 - 1
    )  # of a depth the whole widths are among the three
    assert "gone is not there" in made.warnings[-1]
    with pytest.raises(ArtifactError):
        plan(PruneConfig.model_validate(settings | {"model": str(tmp_path / "gone")}))


def test_a_budget_that_nobody_meets_refuses_and_says_by_how_much() -> None:
    made = plan(PruneConfig.model_validate(RECIPE | {"memory": "15GiB"}))
    assert "GiB more than --memory 15.00 GiB" in made.refusals[0]
    assert made.rows  # the shapes that were given are still shown


def test_work_is_counted_where_the_data_is(settings: dict[str, Any]) -> None:
    one = plan(PruneConfig.model_validate(settings | {"distill_tokens": 1024}))
    two = plan(PruneConfig.model_validate(settings | {"distill_tokens": 2048}))
    work, more = one.sections["Work"], two.sections["Work"]
    assert more["distillation_flops"] == 2 * float(work["distillation_flops"])
    # of 5 blocks one goes: each left out in turn runs those behind it, which is 15 / 5 of a pass, and one pass of all
    assert work["layer_importance_flops"] == pytest.approx(4 * float(work["width_importance_flops"]))
    assert one.peak_bytes
    assert one.seconds
