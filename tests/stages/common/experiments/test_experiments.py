import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.artifact.provenance import Provenance, write_provenance
from model.errors import ArtifactError, UsageError
from stages.common.experiments.__main__ import main
from stages.common.experiments.running import FailedRunError, left_to_make, make_runs, recipe_of
from stages.common.experiments.spec import Claim, Experiment, read_experiment
from stages.common.experiments.tables import device_of, outcomes, rows_of
from tests.stages.common.data.helpers import story, write_jsonl

RECIPE: dict[str, Any] = {
    "name": "trial",
    "seeds": [1, 2],
    "runs": {
        "tokenizer": {"stage": "data tokenizer", "settings": {"vocab_size": 300}},
        "packed-{seed}": {
            "stage": "data prepare",
            "settings": {"tokenizer": "@tokenizer", "seed": "{seed}", "validation_fraction": 0.1},
        },
    },
    "measures": [
        {
            "table": "packing",
            "arm": "plain",
            "artifact": "packed-{seed}",
            "evaluation": "packed-{seed}",
            "figures": {"fill": "fill"},
        }
    ],
}


def experiment(**changes: Any) -> Experiment:
    return Experiment.model_validate(RECIPE | changes)


def test_runs_are_made_once_a_seed_and_after_those_they_need() -> None:
    made = experiment().made()
    assert list(made) == ["tokenizer", "packed-1", "packed-2"]
    assert made["packed-2"].settings["seed"] == 2
    assert made["packed-2"].resolved(Path("there"))["tokenizer"] == "there/tokenizer"


def test_references_inside_lists_and_with_weights_are_found() -> None:
    runs = {
        "a-{seed}": {"stage": "x"},
        "b-{seed}": {"stage": "x", "settings": {"data": ["@a-{seed}:0.8", "@a-{seed}/train.jsonl"]}},
    }
    made = experiment(runs=runs, measures=[]).made()["b-2"]
    assert made.needs == {"a-2"}
    assert made.resolved(Path("f"))["data"] == ["f/a-2:0.8", "f/a-2/train.jsonl"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": {"a": {"stage": "x", "settings": {"model": "@b"}}}, "measures": []}, "@b, which is no run"),
        ({"seeds": []}, "seeds"),
        ({"seed": 3}, "seed"),
        (
            {
                "runs": {"a": {"stage": "x", "settings": {"m": "@b-{seed}"}}, "b-{seed}": {"stage": "x"}},
                "measures": [],
            },
            "made once",
        ),
        ({"measures": [RECIPE["measures"][0] | {"evaluation": "eval-{seed}"}]}, "which is no run"),
        (
            {
                "claims": [
                    {
                        "name": "c",
                        "table": "packing",
                        "figure": "rate",
                        "treatment": "plain",
                        "control": "plain",
                    }
                    | {"floor": 0, "ceiling": 1}
                ]
            },
            "nothing measures 'rate'",
        ),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump(RECIPE | changes))
    with pytest.raises(UsageError, match=message):
        read_experiment(path)


def test_a_circle_is_refused() -> None:
    runs = {name: {"stage": "x", "settings": {"m": f"@{other}"}} for name, other in (("a", "b"), ("b", "a"))}
    with pytest.raises(UsageError, match="in a circle"):
        experiment(runs=runs, measures=[]).made()


def _claim(**changes: Any) -> Claim:
    values = {"name": "c", "table": "t", "figure": "score", "treatment": "new", "control": "old"}
    return Claim.model_validate(values | {"floor": 0.1, "ceiling": 0.9} | changes)


def _rows(new: dict[int | None, float], old: dict[int | None, float]) -> list[dict[str, Any]]:
    return [
        {"table": "t", "arm": arm, "seed": seed, "artifact": "h", "score": score}
        for arm, scores in (("new", new), ("old", old))
        for seed, score in scores.items()
    ]


def test_a_claim_holds_if_every_seed_agrees_and_is_tested_if_the_control_has_room() -> None:
    rows = _rows({1: 0.5, 2: 0.7}, {1: 0.4, 2: 0.5})
    figures = outcomes([_claim()], rows)
    assert figures["c_difference"] == pytest.approx(0.15)
    assert figures["c_smallest_difference"] == pytest.approx(0.1)
    assert figures["c_holds"] == figures["c_tested"] == 1
    assert outcomes([_claim(floor=0.45)], rows)["c_tested"] == 0
    assert outcomes([_claim(ceiling=0.45)], rows)["c_tested"] == 0
    assert outcomes([_claim()], _rows({1: 0.5, 2: 0.4}, {1: 0.4, 2: 0.5}))["c_holds"] == 0
    lower = outcomes([_claim(better="lower")], rows)
    assert lower["c_holds"] == 0
    assert lower["c_difference"] == pytest.approx(-0.15)


def test_a_control_made_once_stands_beside_every_seed() -> None:
    figures = outcomes([_claim()], _rows({1: 0.5, 2: 0.7}, {None: 0.4}))
    assert figures["c_difference"] == pytest.approx(0.2)
    assert figures["c_smallest_difference"] == pytest.approx(0.1)


def test_a_claim_of_equality_holds_within_its_share_of_the_control() -> None:
    rows = _rows({None: 0.502}, {1: 0.49, 2: 0.51})
    figures = outcomes([_claim(within=0.005)], rows)
    assert figures["c_gap"] == pytest.approx(0.004)
    assert figures["c_spread"] == pytest.approx(0.04)
    assert figures["c_holds"] == figures["c_tested"] == 1
    assert "c_difference" not in figures
    assert outcomes([_claim(within=0.003)], rows)["c_holds"] == 0
    assert outcomes([_claim(within=0.005)], _rows({None: 0.495}, {1: 0.5}))["c_holds"] == 0


def _artifact(directory: Path, device: str = "cpu", **metrics: float) -> None:
    directory.mkdir(parents=True)
    (directory / "results.json").write_text(json.dumps(metrics))
    provenance = Provenance(
        kind="eval", stage="eval", metrics=dict(metrics), device={"type": device, "name": "its name"}
    )
    write_provenance(directory, provenance)


def test_rows_carry_seed_hash_and_raw_figures(tmp_path: Path) -> None:
    for seed in (1, 2):
        _artifact(tmp_path / f"packed-{seed}", fill=0.5 + seed)
    rows = rows_of(experiment(), tmp_path)
    assert [(row["seed"], row["fill"], row["arm"]) for row in rows] == [(1, 1.5, "plain"), (2, 2.5, "plain")]
    assert len({row["artifact"] for row in rows}) == 2
    with pytest.raises(ArtifactError, match="measured no 'speed'"):
        rows_of(experiment(measures=[RECIPE["measures"][0] | {"figures": {"s": "speed"}}]), tmp_path)


def test_figures_of_a_step_come_from_the_log(tmp_path: Path) -> None:
    lines = [
        {"step": 3, "loss": 2.5},
        {"step": 3, "validation_loss": 2.75},
        {"step": 6, "validation_loss": 2.25},
    ]
    for seed in (1, 2):
        _artifact(tmp_path / f"packed-{seed}", validation_loss=2.25)
        log = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"packed-{seed}/metrics.jsonl").write_text(log)
    measure = RECIPE["measures"][0] | {"step": 3, "figures": {"held_out": "validation_loss"}}
    assert [row["held_out"] for row in rows_of(experiment(measures=[measure]), tmp_path)] == [2.75, 2.75]
    with pytest.raises(ArtifactError, match="measured no 'validation_loss'"):
        rows_of(experiment(measures=[measure | {"step": 4}]), tmp_path)


def test_a_result_names_the_device_of_the_runs_not_of_who_wrote_it(tmp_path: Path) -> None:
    _artifact(tmp_path / "tokenizer", device="cpu")
    for seed in (1, 2):
        _artifact(tmp_path / f"packed-{seed}", device="cuda")
    assert device_of(experiment(), tmp_path)["type"] == "cuda"


def _on(texts: Path) -> dict[str, Any]:
    runs = {
        name: run | {"settings": run["settings"] | {"data": [str(texts)]}}
        for name, run in RECIPE["runs"].items()
    }
    return RECIPE | {"runs": runs, "jobs": 2}


def test_the_command_makes_every_run_and_writes_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = write_jsonl(tmp_path / "texts.jsonl", [story(number) for number in range(60)])
    recipe = tmp_path / "trial.yaml"
    recipe.write_text(yaml.safe_dump(_on(texts)))
    monkeypatch.setattr(
        "sys.argv",
        ["x", str(recipe), "-o", str(tmp_path / "trial.json"), "--artifacts", str(tmp_path / "made")],
    )
    assert main() == 0
    written = json.loads((tmp_path / "trial.json").read_text())
    assert [row["seed"] for row in written["rows"]] == [1, 2]
    assert written["rows"][0]["artifact"] != written["rows"][1]["artifact"]
    assert (tmp_path / "made/trial/packed-1/nano2.json").is_file()


def test_experiments_stand_beside_each_other_in_a_result_if_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = tmp_path / "together.json"
    for name in ("first", "second"):
        folder = tmp_path / "made" / name
        for run in experiment(name=name).made():
            _write_recipe(experiment(name=name), run, folder)
            _artifact(folder / run, fill=0.5)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(RECIPE | {"name": name}))
        command = [
            "x",
            str(tmp_path / f"{name}.yaml"),
            "-o",
            str(result),
            "--artifacts",
            str(tmp_path / "made"),
        ]
        monkeypatch.setattr("sys.argv", [*command, "--as-recorded", "--add"])
        assert main() == 0
        assert main() == 0  # an experiment's older figures are replaced
    rows = [row for row in json.loads(result.read_text())["rows"] if row["table"] == "packing"]
    assert [(row["run"], row["seed"]) for row in rows] == [
        (n, s) for n in ("first", "second") for s in (1, 2)
    ]


def test_a_failed_run_names_its_log_and_keeps_what_was_finished(tmp_path: Path) -> None:
    texts = write_jsonl(tmp_path / "texts.jsonl", [story(number) for number in range(60)])
    values = _on(texts)
    values["runs"]["packed-{seed}"]["settings"]["seq_len"] = 3
    with pytest.raises(FailedRunError, match="seq_len") as caught:
        make_runs(Experiment.model_validate(values), tmp_path / "made", 1, lambda line: None)
    assert Path(caught.value.where).is_file()
    assert (tmp_path / "made/tokenizer/nano2.json").is_file()


def test_a_failed_run_does_not_keep_those_that_need_it_not_from_being_made(tmp_path: Path) -> None:
    texts = write_jsonl(tmp_path / "texts.jsonl", [story(number) for number in range(60)])
    values = _on(texts)
    packed = values["runs"].pop("packed-{seed}")
    broken = {**packed, "settings": {**packed["settings"], "seq_len": 3, "seed": 1}}
    values["runs"] |= {"broken": broken, "behind": {**broken, "after": ["broken"]}, "packed-{seed}": packed}
    said: list[str] = []
    with pytest.raises(FailedRunError, match="broken failed"):
        make_runs(Experiment.model_validate(values), tmp_path / "made", 1, said.append)
    assert (tmp_path / "made/packed-2/nano2.json").is_file()
    assert not (tmp_path / "made/behind.log").exists()
    assert any("broken failed" in line for line in said)


def _chain() -> Experiment:
    """A run, one made from it, and one made from that."""
    settings = {"b": {"m": "@a"}, "c": {"m": "@b"}}
    runs = {name: {"stage": "x", "settings": settings.get(name, {})} for name in ("a", "b", "c")}
    return experiment(runs=runs, measures=[])


def _finished(folder: Path, *names: str) -> Experiment:
    """The chain with these runs finished, of which nothing but nano2.json and the recipe came along."""
    chain = _chain()
    for name in names:
        _write_recipe(chain, name, folder)
        _artifact(folder / name)
        (folder / name / "results.json").unlink()
    return chain


def _write_recipe(trial: Experiment, name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe_of(trial.made()[name], folder)))


def test_what_is_recorded_stays_and_is_made_again_only_for_what_needs_its_files(tmp_path: Path) -> None:
    assert list(left_to_make(_finished(tmp_path / "all", "a", "b", "c"), tmp_path / "all")) == []
    assert list(left_to_make(_finished(tmp_path / "two", "a", "b"), tmp_path / "two")) == ["a", "b", "c"]
    whole = tmp_path / "whole"
    chain = _finished(whole, "a", "b")
    (whole / "b/results.json").write_text("{}")
    assert list(left_to_make(chain, whole)) == ["c"]


def test_what_was_made_by_another_recipe_or_from_what_was_is_not_finished(tmp_path: Path) -> None:
    chain = _finished(tmp_path, "a", "b", "c")
    recipe = tmp_path / "b.yaml"
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | {"seed": 3}))
    os.utime(recipe, (0, 0))
    assert list(left_to_make(chain, tmp_path)) == ["a", "b", "c"]
    assert list(left_to_make(_chain(), tmp_path / "nothing")) == ["a", "b", "c"]


def test_an_artifact_that_refused_a_changed_recipe_is_not_taken_for_its(tmp_path: Path) -> None:
    texts = write_jsonl(tmp_path / "texts.jsonl", [story(number) for number in range(60)])
    values = _on(texts)
    make_runs(Experiment.model_validate(values), tmp_path / "made", 1, lambda line: None)
    assert left_to_make(Experiment.model_validate(values), tmp_path / "made") == {}
    values["runs"]["packed-{seed}"]["settings"]["seq_len"] = 64
    changed = Experiment.model_validate(values)
    for _ in range(2):
        with pytest.raises(FailedRunError, match="seq_len was"):
            make_runs(changed, tmp_path / "made", 1, lambda line: None, as_recorded=True)


def test_figures_that_were_brought_along_make_the_result_where_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = write_jsonl(tmp_path / "texts.jsonl", [story(number) for number in range(60)])
    recipe = tmp_path / "trial.yaml"
    recipe.write_text(yaml.safe_dump(_on(texts)))
    command = ["x", str(recipe), "-o", str(tmp_path / "trial.json"), "--artifacts", str(tmp_path / "made")]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    written = (tmp_path / "trial.json").read_text()
    texts.unlink()
    for path in (tmp_path / "made").rglob("*"):
        if path.is_file() and path.name != "nano2.json" and path.suffix != ".yaml":
            path.unlink()
    monkeypatch.setattr("sys.argv", [*command, "--as-recorded"])
    assert main() == 0
    rows = json.loads(written)["rows"]
    assert json.loads((tmp_path / "trial.json").read_text())["rows"] == rows
    # One that is lost is made again, and with it what it needs: its inputs are missed then.
    (tmp_path / "made/trial/packed-2/nano2.json").unlink()
    assert main() != 0
