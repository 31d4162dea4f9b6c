"""A sweep's figures are those of `nano2 eval` on each merge; the best is kept; what was done is not done again."""

import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from model.artifact.hashing import content_hash
from model.artifact.lineage import lineage
from model.errors import UsageError
from stages.common.reporter import QuietReporter
from stages.merge.config import MergeConfig
from stages.merge.stage import STAGE
from tests.forked import Forked
from tests.stages.eval.test_eval import run as evaluate
from tests.stages.merge.helpers import merge

ALPHAS = (0.0, 0.25, 0.5, 1.0)
SWEEP: dict[str, Any] = {
    "alphas": list(ALPHAS),
    "tasks": ["nano2_piqa", "nano2_arc_easy"],
    "limit": 25,
}


@pytest.fixture(scope="module")
def swept(a: Path, b: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    out: Path = tmp_path_factory.mktemp("swept") / "out"
    outcome = merge(out, a, b, **SWEEP)
    return out, outcome.result.rows


def test_the_figures_are_those_of_evaluating_each_merge(
    swept: tuple[Path, list[dict[str, Any]]], a: Path, b: Path, tmp_path: Path
) -> None:
    out, rows = swept
    assert [row["alpha"] for row in rows] == list(ALPHAS)
    for row in rows:
        merge(tmp_path / "merged", a, b, alpha=row["alpha"])
        figures = evaluate(
            tmp_path / "eval", model=tmp_path / "merged", tasks=SWEEP["tasks"], limit=25
        ).result.metrics
        assert {name: figures[name] for name in row if "/" in name} == {
            name: value for name, value in row.items() if "/" in name
        }
        assert row["score"] == pytest.approx((figures["nano2_piqa/acc"] + figures["nano2_arc_easy/acc"]) / 2)
        subprocess.run(["rm", "-r", tmp_path / "merged"], check=True)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows


def test_the_best_is_kept_and_recorded(
    swept: tuple[Path, list[dict[str, Any]]], a: Path, b: Path, tmp_path: Path
) -> None:
    out, rows = swept
    metrics = json.loads((out / "nano2.json").read_text())["metrics"]
    assert metrics["score"] == max(row["score"] for row in rows)
    assert {f"score@{row['alpha']:g}": row["score"] for row in rows}.items() <= metrics.items()
    merge(tmp_path / "alone", a, b, alpha=metrics["alpha"])
    assert content_hash(out) == content_hash(tmp_path / "alone")
    alpha = metrics["alpha"]
    assert [node.weight for node in lineage(out).parents] == [1 - alpha, alpha]
    assert len({row["score"] for row in rows}) > 1, "the sweep of the test decides nothing"


def test_ties_go_to_the_most_even(a: Path, tmp_path: Path) -> None:
    """A model with itself scores the same at every share."""
    outcome = merge(tmp_path / "out", a, a, **SWEEP | {"alphas": [0, 0.4, 0.75], "limit": 4})
    assert outcome.result.metrics["alpha"] == 0.4


def test_what_cannot_be_scored_is_never_the_best() -> None:
    from stages.merge.sweep import Trial, best

    trials = [Trial(0.0, math.nan, {}), Trial(0.75, -3.0, {}), Trial(0.25, -3.0, {}), Trial(1.0, -4.0, {})]
    assert best(trials).alpha == 0.25


class TestWhatDecides:
    def test_named_figures(self, a: Path, b: Path, tmp_path: Path) -> None:
        settings = SWEEP | {"tasks": ["nano2_lambada", "nano2_piqa"], "limit": 6}
        outcome = merge(tmp_path / "out", a, b, **settings, best_by=["nano2_lambada/perplexity"])
        rows = outcome.result.rows
        assert [row["score"] for row in rows] == [-row["nano2_lambada/perplexity"] for row in rows]
        lowest = min(rows, key=lambda row: row["nano2_lambada/perplexity"])
        assert outcome.result.metrics["alpha"] == lowest["alpha"]

    def test_figures_that_have_no_common_mean_are_refused_before_any_work(
        self, a: Path, b: Path, tmp_path: Path
    ) -> None:
        config = MergeConfig.model_validate(
            {"model": [a, b], **SWEEP, "tasks": ["nano2_piqa", "nano2_lambada"]}
        )
        with pytest.raises(UsageError, match="nano2_lambada/perplexity is the better the lower"):
            STAGE.call_plan(config)

    def test_a_figure_that_is_not_there(self, a: Path, b: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no figure 'nano2_piqa/f1'") as caught:
            merge(tmp_path / "out", a, b, **SWEEP | {"limit": 3}, best_by=["nano2_piqa/f1"])
        assert "nano2_piqa/acc_norm" in caught.value.remedy


def test_the_plan_has_documents_and_the_memory_of_an_evaluation(a: Path, b: Path) -> None:
    plan = STAGE.call_plan(MergeConfig.model_validate({"model": [a, b], **SWEEP}))
    assert plan is not None
    assert plan.sections["Sweep"] == {"evaluations": 4}
    assert plan.sections["Documents"] == {"nano2_piqa": 25, "nano2_arc_easy": 25}
    assert plan.sections["Memory"]["weights_bytes"] == plan.sections["Files"]["written_bytes"]


def start(a: Path, b: Path, out: Path) -> Forked:
    sweep = ["--alphas", "0,0.25,0.5,1", "--tasks", "nano2_piqa,nano2_arc_easy", "--limit", "25"]
    return Forked("merge", "-m", a, "-m", b, "-o", out, *sweep)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_sweep_goes_on_where_it_was(
    swept: tuple[Path, list[dict[str, Any]]], a: Path, b: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = start(a, b, out)
    trials, deadline = tmp_path / "out.run" / "sweep.jsonl", time.monotonic() + 90
    while not trials.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert not out.exists()
    done = len(trials.read_text().splitlines())
    assert 1 <= done < len(ALPHAS)

    with pytest.raises(UsageError, match="limit was 25 there and is 24 here"):
        merge(out, a, b, **SWEEP | {"limit": 24})
    reporter = QuietReporter()
    outcome = merge(out, a, b, reporter=reporter, **SWEEP)
    assert sum(message.startswith("alpha ") for message in reporter.messages) == len(ALPHAS) - done
    assert outcome.result.rows == swept[1]
    assert content_hash(out) == content_hash(swept[0])
    assert os.listdir(tmp_path) == ["out"]
