"""`nano2 bench eval`: the order of its measurements, figures by hand, both sides on a small mix, and (slow) the command."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from evals import quiet

quiet.prepare()

from model.errors import ArtifactError  # noqa: E402
from model.loading import load  # noqa: E402
from model.tokenizer import load_tokenizer  # noqa: E402
from stages.bench.eval import campaign as campaign_module  # noqa: E402
from stages.bench.eval.campaign import Campaign, Measurer  # noqa: E402
from stages.bench.eval.config import DEFAULT_OUT, EvalBenchConfig  # noqa: E402
from stages.bench.eval.fresh import write_fresh_artifact  # noqa: E402
from stages.bench.eval.measure import Answers, build_requests, count_mismatches, measure  # noqa: E402
from stages.bench.eval.summary import summarize  # noqa: E402
from stages.bench.eval.sweep import FULL, KINDS, PRESET, QUICK, Kind, Mix, Setting  # noqa: E402
from stages.bench.isolation import run_isolated  # noqa: E402
from stages.bench.stage import EVAL  # noqa: E402
from stages.common.harness import run_stage  # noqa: E402
from stages.common.reporter import QuietProgressBar, QuietReporter  # noqa: E402
from stages.common.results import ResultFile, read_result  # noqa: E402

pytest.importorskip("accelerate", reason="lm-eval's hf backend needs it")


class FakeMachine:
    """hf is best at batch 8 for multiple choice and at the largest for the rest; bfloat16 is faster for all but rolling;
    nano2 generates best with many rows."""

    def __init__(self) -> None:
        self.asked: list[tuple[Setting, tuple[Kind, ...]]] = []

    def __call__(self, _: Any, setting: Setting, *rest: Any) -> dict[Kind, Answers]:
        kinds = tuple(rest[2])
        self.asked.append((setting, kinds))
        return {kind: Answers(self.seconds(setting, kind), []) for kind in kinds}

    def seconds(self, setting: Setting, kind: Kind) -> float:
        seconds = 1.0
        if setting.side == "hf":
            best = 8 if kind == "multiple_choice" else 128
            seconds = 2.0 + abs(setting.batch - best) / 32
        elif kind == "generate":
            seconds = 40 / setting.batch
        if setting.dtype == "bfloat16":
            seconds *= 1.5 if kind == "rolling" else 0.5
        return seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    machine = FakeMachine()
    monkeypatch.setattr(campaign_module, "run_isolated", machine)
    return machine


def test_the_sweep_finds_the_best_of_each_kind_and_the_sides_take_turns(machine: FakeMachine) -> None:
    campaign = Measurer(Path(), FULL, 2, QuietProgressBar()).run()
    assert campaign.best("multiple_choice", "hf") == Setting("hf", "bfloat16", 8)
    assert campaign.best("rolling", "hf") == Setting("hf", "float32", 128)
    assert campaign.best("generate", "hf") == Setting("hf", "bfloat16", 128)
    assert campaign.best("generate", "nano2") == Setting("nano2", "bfloat16", 128)
    assert campaign.best("multiple_choice", "nano2") == Setting("nano2", "bfloat16", 32)
    assert campaign.best("rolling", "nano2", "bfloat16") == Setting("nano2", "bfloat16", 32)
    swept = [setting.batch for setting, kinds in machine.asked if "multiple_choice" in kinds]
    assert swept[: 1 + len(FULL.batches)] == [32, *FULL.batches], "the sweep of a kind ended before its best"
    rolling = {
        setting.batch for setting, kinds in machine.asked if "rolling" in kinds and setting.side == "hf"
    }
    assert rolling == {128, 64}, "the sweep of a kind went on behind a size that is much worse"
    assert [(setting.side, setting.dtype) for setting, _ in machine.asked[-8:]] == [
        *[("nano2", "float32")] * 2,
        *[("hf", "float32")] * 2,
        *[("nano2", "bfloat16")] * 2,
        *[("hf", "bfloat16")] * 2,
    ]
    for kind in KINDS:
        for side in ("nano2", "hf"):
            best = campaign.best(kind, side)  # type: ignore[arg-type]
            assert len(campaign.seconds[kind, best]) == 1 + FULL.rounds


def known_campaign() -> Campaign:
    campaign = Campaign()
    seconds = {"multiple_choice": (2.0, 6.0), "rolling": (1.0, 3.0), "generate": (1.0, 2.0)}
    for kind in KINDS:
        ours, theirs = seconds[kind]
        campaign.seconds[kind, Setting("nano2", "float32", 32)] = [ours * 2, ours]
        campaign.seconds[kind, Setting("hf", "float32", 8)] = [theirs]
        campaign.seconds[kind, Setting("hf", "float32", 1)] = [theirs * 9]
    campaign.seconds["rolling", Setting("hf", "bfloat16", 8)] = [2.0]
    campaign.answers = {
        ("multiple_choice", "nano2"): [(-1.0, True), (-2.0, False)],
        ("multiple_choice", "hf"): [(-1.00005, True), (-2.00001, True)],
        ("rolling", "nano2"): [-100.0, -300.0],
        ("rolling", "hf"): [-100.02, -300.03],
        ("generate", "nano2"): ["a", "b"],
        ("generate", "hf"): ["a", "c"],
    }
    return campaign


def test_figures_by_hand() -> None:
    metrics, rows = summarize(known_campaign(), FULL, [10, 30], mismatches=1, threads=2)
    assert metrics["speed_ratio_cpu"] == pytest.approx((6 + 2 + 2) / (2 + 1 + 1))
    assert metrics["speed_ratio_cpu_float32"] == pytest.approx((6 + 3 + 2) / 4)
    assert metrics["speed_ratio_multiple_choice"] == pytest.approx(3)
    assert metrics["speed_ratio_rolling"] == pytest.approx(2)
    assert metrics["score_gap_max"] == pytest.approx(5e-5)
    assert metrics["rolling_gap_max"] == pytest.approx(0.002)
    assert metrics["is_greedy_differences"] == 1
    assert (metrics["greedy_mismatches"], metrics["greedy_texts"]) == (1, 2)
    result = ResultFile.model_validate(
        {"name": "eval", "command": "c", "device": {}, "commit": None, "date": "2026-01-01T00:00:00Z"}
        | {"versions": {}, "metrics": metrics, "rows": rows}
    )
    best = [row for row in result.table("speed") if row["best"]]
    assert [(row["kind"], row["side"], row["precision"]) for row in best if row["side"] == "hf"] == [
        ("multiple_choice", "hf", "float32"),
        ("rolling", "hf", "bfloat16"),
        ("generate", "hf", "float32"),
    ]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("fresh")
    write_fresh_artifact(directory, PRESET)
    return directory


def test_a_fresh_artifact_is_the_same_each_time_and_has_a_tokenizer(artifact: Path, tmp_path: Path) -> None:
    write_fresh_artifact(tmp_path, PRESET)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (artifact / name).read_bytes()
    lm = load(artifact)
    tokenizer = load_tokenizer(artifact, lm.config.vocab_size)
    assert tokenizer("Question")["input_ids"][0] == tokenizer.bos_token_id == lm.config.bos_token_id
    assert tokenizer.eos_token_id in lm.config.eos_token_ids
    assert len(tokenizer("Question: what is it?\nAnswer:")["input_ids"]) < 16


@pytest.mark.slow
def test_both_sides_answer_the_same(artifact: Path) -> None:
    settings = (Setting("nano2", "float32", 32), Setting("hf", "float32", 4))
    ours, theirs = (run_isolated(measure, setting, artifact, QUICK, KINDS, 1) for setting in settings)
    for kind in KINDS:
        assert len(ours[kind].answers) == len(build_requests(QUICK, kind)[1])
        assert ours[kind].seconds > 0
    for mine, other in zip(ours["multiple_choice"].answers, theirs["multiple_choice"].answers, strict=True):
        assert mine == (pytest.approx(other[0], abs=1e-4), other[1])
    assert ours["rolling"].answers == pytest.approx(theirs["rolling"].answers, rel=1e-6)
    texts = ours["generate"].answers, theirs["generate"].answers
    threads = torch.get_num_threads()
    assert count_mismatches(artifact, QUICK, *texts, threads) == 0
    spoilt = ["no such text", *theirs["generate"].answers[1:]]
    assert count_mismatches(artifact, QUICK, texts[0], spoilt, threads) == 1


def test_what_warms_up_is_not_asked_again() -> None:
    for kind in KINDS:
        warm_up, requests = build_requests(QUICK, kind)
        assert warm_up
        assert not {request.args[0] for request in warm_up} & {request.args[0] for request in requests}


def test_a_quick_run_replaces_no_result_unasked() -> None:
    assert EvalBenchConfig().result_path == DEFAULT_OUT
    assert EvalBenchConfig(quick=True).result_path is None
    assert EvalBenchConfig(quick=True, out=Path("a.json")).result_path == Path("a.json")
    with pytest.raises(ValidationError):
        EvalBenchConfig(threads=0)


def test_the_mix_fits_the_data() -> None:
    """One document more than is asked is there to warm up with."""
    one_more: Mix = replace(FULL, new_tokens=4)
    for kind in KINDS:
        warm_up, requests = build_requests(one_more, kind)
        assert len({(request.task_name, request.doc_id) for request in requests}) == sum(
            FULL.documents[kind].values()
        )
        assert warm_up


@pytest.mark.slow
def test_the_quick_command(tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    command = [sys.executable, "-m", "nano2cli", "bench", "eval", "--quick", "--json", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    payload = json.loads(done.stdout.splitlines()[-1])
    result = read_result(out)
    assert payload["metrics"] == result.metrics
    assert result.metrics["score_gap_max"] < 1e-4
    assert result.metrics["greedy_mismatches"] == 0
    assert result.metrics["speed_ratio_cpu"] > 0
    assert "leaked" not in done.stderr


def test_an_artifact_without_a_tokenizer_is_refused_before_measuring(artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact, tmp_path / "bare")
    (tmp_path / "bare" / "tokenizer.json").unlink()
    settings = EvalBenchConfig(quick=True, model=tmp_path / "bare")
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json"):
        run_stage(EVAL, settings, out=None, reporter=QuietReporter(), command=["nano2", "bench", "eval"])
