"""dpo on files of pairs: what it learns, what it logs, what it refuses, and that nothing is lost when it is interrupted."""

import fcntl
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model import load
from model.artifact.hashing import content_hash
from model.errors import ArtifactError, InterruptedRunError, Nano2Error, UsageError
from stages.common.preferences import reference
from stages.common.reporter import QuietReporter
from stages.common.training.loop import TrainingLoop
from stages.dpo.plan import plan
from stages.dpo.stage import STAGE
from tests.stages.dpo.conftest import pair
from tests.stages.dpo.helpers import Settings, dpo, logged


def test_the_first_loss_is_ln_2_and_the_margin_grows(settings: Settings, tmp_path: Path) -> None:
    outcome = dpo(settings | {"epochs": 4, "beta": 0.1}, tmp_path / "tuned")
    lines = logged(tmp_path / "tuned")
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert lines[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert lines[-1]["loss"] < 0.4
    assert lines[-1]["rewards/accuracies"] == 1
    assert lines[-1]["rewards/chosen"] - lines[-1]["rewards/rejected"] == pytest.approx(
        lines[-1]["rewards/margins"], abs=1e-5
    )
    metrics = outcome.result.metrics
    assert metrics["validation_accuracy"] == 1
    assert metrics["validation_loss"] < 0.6
    assert metrics["pairs"] + metrics["pairs_held_out"] == metrics["pairs_read"]
    assert metrics["pairs_held_out"] > 0
    assert not (tmp_path / "tuned.run").exists()
    load(tmp_path / "tuned")


def test_smoothing_and_the_sft_term_change_what_is_minimized(settings: Settings, tmp_path: Path) -> None:
    settings |= {"epochs": 2}
    dpo(settings | {"sft_weight": 1.0}, tmp_path / "sft")
    dpo(settings | {"label_smoothing": 0.2}, tmp_path / "smooth")
    dpo(settings, tmp_path / "plain")
    first = logged(tmp_path / "sft")[0]
    assert first["loss"] == pytest.approx(first["loss/preference"] + first["loss/sft"], rel=1e-5)
    assert logged(tmp_path / "sft")[-1]["loss/sft"] < logged(tmp_path / "plain")[-1]["loss/sft"]
    assert (
        logged(tmp_path / "smooth")[-1]["rewards/margins"] < logged(tmp_path / "plain")[-1]["rewards/margins"]
    )


def test_results_do_not_depend_on_how_pairs_are_cut_into_micro_batches(
    settings: Settings, tmp_path: Path
) -> None:
    def losses(name: str, **change: Any) -> list[float]:
        dpo(settings | change, tmp_path / name)
        return [line["loss"] for line in logged(tmp_path / name)]

    usual = losses("a")
    assert losses("b", micro_batch=1) == pytest.approx(usual, abs=1e-4)
    assert losses("c", seq_len=128, micro_batch=3) == pytest.approx(usual, abs=1e-4)


def test_an_epoch_reads_a_file_as_often_as_its_weight_says(
    settings: Settings, pairs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(pair(f"new {index}")) + "\n" for index in range(10)))
    settings |= {"data": [f"{pairs}:0.5", f"{other}:2"], "validation_fraction": 0, "batch_pairs": 4}
    outcome = dpo(settings, tmp_path / "tuned")
    count = len(pairs.read_text().splitlines())
    assert outcome.result.metrics["steps"] == math.ceil((0.5 * count + 20) / 4)


def test_alike_and_long_pairs_are_left_out_and_said(settings: Settings, pairs: Path, tmp_path: Path) -> None:
    alike = pair("wheel") | {"rejected": "The wheel is here."}
    spaced = pair("wheel") | {"rejected": "The  wheel is here.\n"}
    long = pair("wheel") | {"rejected": "wheel " * 500}
    with pairs.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in (alike, spaced, long))
    reporter = QuietReporter()
    outcome = dpo(settings, tmp_path / "tuned", reporter)
    assert outcome.result.metrics["pairs_left_out"] == 3
    count = len(pairs.read_text().splitlines())
    for number, words in (
        (count - 2, "1 pairs have identical sides"),
        (count - 1, "1 pairs have sides that differ in white space alone"),
        (count, "1 pairs do not fit into a row of 256 tokens"),
    ):
        assert any(words in m and f"pairs.jsonl line {number}" in m for m in reporter.warnings), words


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "has no pairs"),
        (
            [pair("a") | {"rejected": pair("a")["chosen"]}],
            "none of its 1 pairs is left to train on .*identical",
        ),
        (
            [pair("a") | {"chosen": "wheel " * 500}],
            "has no pair that fits into 256 tokens",
        ),
        ([pair("a"), pair("b") | {"prompt": []}], "line 2: prompt: is empty"),
        ([pair("a") | {"strength": float("nan")}], "strength: "),
    ],
)
def test_files_without_pairs_to_train_on_are_refused(
    settings: Settings, pairs: Path, tmp_path: Path, rows: list[Any], words: str
) -> None:
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ArtifactError, match=words):
        dpo(settings, tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
    assert not (tmp_path / "tuned.run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": []}, "give either pairs"),
        ({"prompts": ["x.jsonl"]}, "not both"),
        ({"samples": 4}, "samples has no use with -d"),
        ({"data": [], "prompts": ["x.jsonl"], "epochs": 2}, "epochs has no use with --prompts"),
        ({"beta": 0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"epochs": 1e300}, "more than can be counted"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: Settings, tmp_path: Path, change: Settings, message: str
) -> None:
    with pytest.raises((UsageError, ValueError), match=message) as caught:
        dpo(settings | change, tmp_path / "tuned")
    assert isinstance(caught.value, Nano2Error | ValueError)


def test_weights_that_are_not_finite_are_refused(settings: Settings, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["lm_head.weight"][3, 4] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"lm_head\.weight"):
        dpo(settings | {"model": str(broken)}, tmp_path / "tuned")


def test_a_second_writer_is_refused(settings: Settings, tmp_path: Path) -> None:
    run = tmp_path / "tuned.run"
    run.mkdir()
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError):
            dpo(settings, tmp_path / "tuned")
    dpo(settings, tmp_path / "tuned")


def _stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag is set once so many steps are done, as by a signal."""
    step, done = TrainingLoop._step, 0

    def counted(self: Any, log: Any, bar: Any) -> bool:
        nonlocal done
        done += 1
        if done == steps:
            self.context.stop.signal_name = "SIGINT"
        return step(self, log, bar)

    monkeypatch.setattr(TrainingLoop, "_step", counted)


def test_interrupted_and_continued_it_gives_the_same_weights(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"epochs": 2}
    dpo(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        _stop_after(4, patch)
        with pytest.raises(InterruptedRunError):
            dpo(settings, tmp_path / "tuned")

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("pairs and reference are kept")

    with monkeypatch.context() as patch:
        patch.setattr("stages.common.preferences.files.read_sources", forbidden)
        patch.setattr("stages.dpo.run.reference_logprobs", forbidden)
        dpo(settings, tmp_path / "tuned")
    assert content_hash(tmp_path / "tuned") == content_hash(tmp_path / "whole")
    losses = [[line["loss"] for line in logged(tmp_path / name)] for name in ("tuned", "whole")]
    assert losses[0] == losses[1]


def test_interrupted_before_the_first_step_nothing_is_left_and_nothing_is_lost(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_logprobs, done = reference.answer_logprobs, 0

    def counted(lm: Any, batch: Any) -> torch.Tensor:
        nonlocal done
        done += 1
        if done == 3:
            raise InterruptedRunError("interrupted")
        return answer_logprobs(lm, batch)

    with monkeypatch.context() as patch:
        patch.setattr(reference, "answer_logprobs", counted)
        with pytest.raises(InterruptedRunError):
            dpo(settings, tmp_path / "tuned")
    dpo(settings, tmp_path / "tuned")
    dpo(settings, tmp_path / "whole")
    assert content_hash(tmp_path / "tuned") == content_hash(tmp_path / "whole")


def test_damaged_kept_pairs_are_said(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _stop_after(2, patch)
        with pytest.raises(InterruptedRunError):
            dpo(settings, tmp_path / "tuned")
    kept = tmp_path / "tuned.run" / "pairs" / "pairs.safetensors"
    kept.write_bytes(kept.read_bytes()[:-50])
    with pytest.raises(ArtifactError, match="the kept pairs cannot be read"):
        dpo(settings, tmp_path / "tuned")


def test_the_plan_estimates_the_steps_of_the_run(settings: Settings, tmp_path: Path) -> None:
    settings |= {"epochs": 3}
    estimate = plan(STAGE.config.model_validate(settings))
    outcome = dpo(settings, tmp_path / "tuned")
    assert estimate.sections["Work"]["steps"] == pytest.approx(outcome.result.metrics["steps"], rel=0.1)
    assert estimate.sections["Work"]["reference_flops"] > 0
    assert not estimate.refusals
    assert np.isfinite(estimate.seconds)
