"""`nano2 bench train` on miniatures, against transformers; figures by hand; what does not fit, and what is refused."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from model.artifact.provenance import read_provenance
from model.config import HybridConfig
from model.counting import count_parameters
from model.errors import Nano2Error, PlanRefusedError, UsageError
from model.hybrid import HybridLM
from stages.bench.isolation import run_isolated
from stages.bench.stage import TRAIN
from stages.bench.train import campaign as campaign_module
from stages.bench.train import run as run_module
from stages.bench.train.campaign import Campaign, Record, count_measurements, run_campaign
from stages.bench.train.config import TrainBenchConfig
from stages.bench.train.hf import apart
from stages.bench.train.job import OUTER, Job
from stages.bench.train.measure import Examined, Measured, Unfit, measure_point
from stages.bench.train.points import AUTOCAST, HALF_WEIGHTS, Point, in_turns, our_points, their_points
from stages.bench.train.rows import as_arrays, documents_in, from_arrays, model_shape, step_rows
from stages.bench.train.sides import train
from stages.bench.train.stopwatch import BACKWARD, EMBEDDING, FORWARD, LOSS, OPTIMIZER, Observer, Stopwatch
from stages.bench.train.summary import KINDS, summarize, useful_flops_per_token
from stages.common.harness import run_stage
from stages.common.reporter import QuietProgressBar, QuietReporter
from stages.common.results import read_result
from stages.common.stage import StageOutcome
from tests.stages.common.data.helpers import story
from tests.stages.conftest import prepared

INSIDE = [kind for kind in KINDS if kind != OUTER]
GIVEN: dict[str, Any] = {"preset": "tiny", "seq_len": 32, "batch_tokens": 128, "micro_batch": "1,2"}
FEW = {"steps": 1, "rounds": 1, "threads": 1, "device": "cpu"}


def settings(**changes: Any) -> TrainBenchConfig:
    given = {name: value for name, value in {**GIVEN, **FEW, **changes}.items() if value is not None}
    return TrainBenchConfig.model_validate(given)


def bench(out: Path, **changes: Any) -> StageOutcome:
    return run_stage(
        TRAIN, settings(**changes), out=out, reporter=QuietReporter(), command=["nano2", "bench", "train"]
    )


def job_of(config: TrainBenchConfig, **changes: Any) -> Job:
    shape = model_shape(config)
    made = Job(
        shape=shape,
        model=config.model,
        seed=0,
        rows=as_arrays(step_rows(config, shape)),
        device="cpu",
        threads=1,
        warmup=1,
        steps=1,
        memory=2**33,
        rates={"float32": 1e11, "bfloat16": 5e10},
    )
    return replace(made, **changes)


def run(
    campaign: Campaign,
    config: TrainBenchConfig,
    theirs: Sequence[Point] = (),
    bar: QuietProgressBar | None = None,
    tell: Callable[[], None] = lambda: None,
) -> None:
    bar = bar or QuietProgressBar()
    run_campaign(campaign, config, theirs, flash=False, traces=None, bar=bar, tell=tell)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> StageOutcome:
    folder = tmp_path_factory.mktemp("bench")
    return bench(
        folder / "out",
        against="hf",
        recompute="none,mamba+mlp",
        profile=True,
        name="4b",
        result=folder / "train-x.json",
    )


def test_both_sides_are_measured_and_the_ratio_is_that_of_the_best_rows(outcome: StageOutcome) -> None:
    assert outcome.out is not None
    published = read_result(outcome.out.parent / "train-x.json")
    metrics, rows = published.metrics, published.table("train")
    assert read_result(outcome.out / "train.json").rows == published.rows
    best = {row["side"]: row for row in rows if row["best"]}
    assert len([row for row in rows if row["best"]]) == 2
    for side in ("nano2", "hf"):
        of_side = [row for row in rows if row["side"] == side]
        assert {row["micro_batch"] for row in of_side} == {1, 2}
        assert best[side]["steps"] == 2  # of the sweep, and of the round behind it
        again = [row for row in of_side if row["steps"] == 2]
        assert len(again) == 2
        assert best[side]["tok_per_s"] == max(row["tok_per_s"] for row in again)
    ours, theirs = best["nano2"], best["hf"]
    assert metrics["hf_ratio_4b"] == pytest.approx(ours["tok_per_s"] / theirs["tok_per_s"])
    assert metrics["tflops_4b"] == ours["tflops"]
    assert metrics["hf_memory_ratio_4b"] == pytest.approx(ours["peak_bytes"] / theirs["peak_bytes"])
    assert metrics["hf_loss_gap_4b"] < 1e-4
    flops = 6 * metrics["parameters_without_input_embedding_4b"]
    for row in rows:
        assert row["unfit"] is None
        assert row["tflops"] == pytest.approx(row["tok_per_s"] * flops / 1e12)
        assert row["mfu"] == pytest.approx(row["tflops"] / metrics["matrix_tflops_float32_4b"])
        assert row["loss"] == pytest.approx(math.log(512), rel=0.1)
        assert 0 < row["peak_bytes"] < 2**30
    configs = {row["config"] for row in rows}
    assert {"float32, recompute none", "float32, recompute mamba+mlp"} <= configs
    assert {f"float32, sdpa, checkpointing {state}" for state in ("on", "off")} <= configs
    assert any("eager" in config for config in configs)


def test_times_by_kind_are_those_of_a_whole_step(outcome: StageOutcome) -> None:
    assert outcome.out is not None
    result = read_result(outcome.out / "train.json")
    for side in ("nano2", "hf"):
        rows = [row for row in result.table("time") if row["side"] == side]
        assert [row["kind"] for row in rows] == INSIDE
        assert sum(row["step_share"] for row in rows) == pytest.approx(1, abs=1e-3)
        for row in rows[:-1]:
            assert row["forward_ms"] > 0
            assert row["backward_ms"] > 0
            assert row["total_ms"] == pytest.approx(row["forward_ms"] + row["backward_ms"], abs=2e-3)
        assert rows[-1]["forward_ms"] is None
        operations = [row for row in result.table("operations") if row["side"] == side]
        assert operations == sorted(operations, key=lambda row: -row["self_ms"])
        assert "aten::mm" in {row["operation"] for row in operations}


def test_what_lies_in_the_artifact(outcome: StageOutcome) -> None:
    assert outcome.out is not None
    for side in ("nano2-float32", "hf"):
        trace = json.loads((outcome.out / f"trace-{side}.json").read_text())
        assert any(event.get("name") == "aten::mm" for event in trace["traceEvents"])
    plot = "".join(ElementTree.fromstring((outcome.out / "plot.svg").read_text()).itertext())
    assert "nano2: float32, recompute mamba+mlp" in plot
    assert "## operations" in (outcome.out / "table.md").read_text()
    assert read_provenance(outcome.out).kind == "bench"  # type: ignore[union-attr]


def test_the_steps_are_those_of_the_training_loop_and_both_sides_learn_alike() -> None:
    """Four steps: where the optimizer, the clipping or the weighting of micro-batches differed, later losses would."""
    job = job_of(settings())
    alike = [
        train(job, Point(side, size, "float32", kinds), 4, Observer())
        for side, size, kinds in (
            ("nano2", 1, ()),
            ("nano2", 2, ("mamba", "mlp")),
            ("hf", 4, ()),
            ("hf", 2, ("mamba",)),
        )
    ]
    shown = Point("nano2", 2, "float32")
    alike += [
        train(job, replace(shown, sharded=True), 4, Observer()),
        train(job, replace(shown, pieces=2), 4, Observer()),
    ]
    first, *others = alike
    assert first[3].loss < first[0].loss
    for steps in others:
        assert [step.loss for step in steps] == pytest.approx([step.loss for step in first], abs=2e-5)
        assert [step.gradient_norm for step in steps] == pytest.approx(
            [step.gradient_norm for step in first], rel=1e-3
        )


@pytest.mark.parametrize("precision", [AUTOCAST, HALF_WEIGHTS])
def test_transformers_in_bfloat16(precision: str) -> None:
    job = job_of(settings())
    (exact,) = train(job, Point("nano2", 4, "float32"), 1, Observer())
    (rounded,) = train(job, Point("hf", 4, precision), 1, Observer())
    assert rounded.loss != exact.loss
    assert rounded.loss == pytest.approx(exact.loss, abs=2e-2)


def test_a_recomputed_block_is_backward_work_and_nothing_is_counted_twice() -> None:
    job = job_of(settings())
    times = {}
    for kinds in ((), ("mamba",)):
        watch = Stopwatch(torch.device("cpu"), 1, 3)
        steps = train(job, Point("nano2", 2, "float32", kinds), 4, watch)
        whole = sum(step.seconds for step in steps[1:])
        assert 0.5 * whole < sum(watch.times.values()) < 1.05 * whole
        assert set(watch.times) == {
            *((phase, kind) for phase in (FORWARD, BACKWARD) for kind in INSIDE[:-1]),
            (OPTIMIZER, OPTIMIZER),
        }
        times[kinds] = watch.times
    ratio = {kinds: of[BACKWARD, "mamba"] / of[FORWARD, "mamba"] for kinds, of in times.items()}
    assert ratio[("mamba",)] > ratio[()] + 0.3


def test_a_stopwatch_charges_each_stretch_to_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("stages.bench.train.stopwatch.time.perf_counter", lambda: float(next(clock)))
    watch = Stopwatch(torch.device("cpu"), 0, 1)
    embedding, block = torch.nn.Embedding(4, 2), torch.nn.Linear(2, 2)
    watch.attach(embedding, [block], ["mlp"])
    watch.begin(0)
    for _ in range(2):
        watch.read()
        loss = block(embedding(torch.tensor([1, 2]))).sum()
        watch.differentiate()
        loss.backward()
    watch.optimize()
    watch.end()
    watch.begin(1)
    watch.read()
    watch.differentiate()
    parts = [(FORWARD, EMBEDDING), (FORWARD, "mlp"), (FORWARD, LOSS)]
    parts += [(BACKWARD, LOSS), (BACKWARD, "mlp"), (BACKWARD, EMBEDDING)]
    assert watch.times == {**dict.fromkeys(parts, 2.0), (OPTIMIZER, OPTIMIZER): 1.0}


def test_useful_flops_are_six_for_each_parameter_that_multiplies_a_token() -> None:
    shape = HybridConfig.preset("tiny")
    lm = HybridLM(shape)
    multiplied = (
        sum(parameter.numel() for parameter in lm.parameters()) - lm.backbone.embeddings.weight.numel()
    )
    assert useful_flops_per_token(shape) == 6 * multiplied
    # Nemotron-H-4B, 4.49B parameters, of which 131072 x 3072 are the input embedding
    whole = count_parameters(HybridConfig.preset("nemotron-h-4b"))
    assert useful_flops_per_token(HybridConfig.preset("nemotron-h-4b")) == 6 * (whole.total - 131072 * 3072)
    assert whole.total == pytest.approx(4.49e9, rel=0.005)


def test_figures_by_hand() -> None:
    """128 tokens: ours at its best in 0.5 s (median of 0.4, 0.5, 0.9), theirs in 1 s at micro-batch 1."""
    job = job_of(settings())
    our_best, theirs = Point("nano2", 2, "bfloat16"), Point("hf", 1, AUTOCAST)
    campaign = Campaign(
        job,
        {
            Point("nano2", 1, "bfloat16"): Record([0.6], 100, 6.0, 1.0),
            our_best: Record([0.9, 0.4, 0.5], 150, 6.0, 1.0),
            Point("nano2", 4, "bfloat16"): Record([0.45], 200, 6.0, 1.0),  # once, and so by luck
            theirs: Record([1.0], 300, 6.01, 1.0),
            Point("hf", 2, AUTOCAST): Record(reason="no memory"),
        },
    )
    metrics, rows = summarize(campaign, "x")
    flops = 256 * useful_flops_per_token(job.shape)
    assert metrics["tok_per_s_x"] == 256
    assert metrics["hf_tok_per_s_x"] == 128
    assert metrics["hf_ratio_x"] == 2
    assert metrics["hf_memory_ratio_x"] == 0.5
    assert metrics["hf_loss_gap_x"] == pytest.approx(0.01)
    assert metrics["tflops_x"] == flops / 1e12
    assert metrics["mfu_x"] == flops / 5e10  # the rate of bfloat16 products
    assert (metrics["micro_batch_x"], metrics["hf_micro_batch_x"]) == (2, 1)
    assert [row["best"] for row in rows] == [False, True, False, True, False]
    assert (rows[4]["unfit"], rows[4]["tok_per_s"], rows[4]["loss"]) == ("no memory", None, None)


@pytest.mark.slow
def test_a_point_that_does_not_fit_is_a_row_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The larger micro-batch of either side asks for more than the process may take, and PyTorch says so."""
    monkeypatch.setattr(run_module, "available_bytes", lambda _device: 256 * 2**20)
    changes = {"preset": "tiny", "seq_len": 256, "batch_tokens": 4096, "micro_batch": "2,16"}
    changes["shape"] = {"vocab_size": 8192}
    outcome = bench(tmp_path / "out", **changes, against="hf", rounds=0)
    assert outcome.out is not None
    rows = read_result(outcome.out / "train.json").table("train")
    unfit = {(row["side"], row["micro_batch"]) for row in rows if row["unfit"]}
    assert ("hf", 16) in unfit
    assert {side for side, size in unfit if size == 2} == set()
    assert all("memory" in row["unfit"] for row in rows if row["unfit"])
    assert {row["micro_batch"] for row in rows if row["best"] and row["side"] == "hf"} == {2}


def test_memory_that_is_too_small_for_every_point_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "available_bytes", lambda _device: 2**20)
    with pytest.raises(PlanRefusedError, match=r"memory ran out at every point: .*memory"):
        bench(tmp_path / "out", micro_batch="1")
    assert not (tmp_path / "out").exists()


def test_a_process_that_is_killed_is_a_point_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_module, "measure_point", die)
    campaign = Campaign(job_of(settings()))
    run(campaign, settings())
    assert all("killed" in record.reason for record in campaign.records.values())
    assert campaign.winners() == []


def die(job: Job, point: Point) -> Measured | Unfit:
    os.kill(os.getpid(), 9)
    raise AssertionError


def test_another_model_on_the_other_side_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_module, "measure_point", measure_another)
    config = settings(against="hf", rounds=0)
    with pytest.raises(Nano2Error, match=r"differs from .* on the same weights: losses .*") as raised:
        run(Campaign(job_of(config)), config, their_points(config, ["mamba"], ["float32"]))
    assert "nano2, micro-batch 1" in raised.value.what
    assert "hf, micro-batch 1" in raised.value.where


def measure_another(job: Job, point: Point) -> Measured | Unfit:
    """Transformers' side with weights of another seed."""
    return measure_point(replace(job, seed=5) if point.side == "hf" else job, point)


def test_the_sides_take_turns_and_the_bar_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Point] = []

    def answer(_function: Any, _job: Job, point: Point, *_rest: Any) -> Measured | Unfit:
        asked.append(point)
        seconds = {1: 2.0, 2: 1.0}[point.micro_batch] * (0.9 if point.attention == "eager" else 1)
        return Measured([seconds], 1, 6.0, 1.0)

    monkeypatch.setattr(campaign_module, "run_isolated", answer)
    config = settings(against="hf", precision="bfloat16", rounds=2)
    ours, theirs = our_points(config), their_points(config, ["mamba", "mlp"], ["float32"])
    bar, told = QuietProgressBar(), list[int]()
    run(Campaign(job_of(config)), config, theirs, bar, lambda: told.append(bar.done))
    assert told == list(range(1, bar.done + 1))
    assert bar.done == count_measurements(config, ours, theirs, flash=False)
    assert [point.side for point in asked[:4]] == ["nano2", "hf", "nano2", "hf"]
    eager = replace(theirs[1], attention="eager")
    again = [ours[1], eager, ours[0], theirs[1]]
    assert asked[len(ours) + len(theirs) :] == [eager, *again, *again, ours[1], eager]


def test_what_shows_costs_is_measured_beside_the_point_that_it_is_compared_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Point] = []

    def answer(_function: Any, _job: Job, point: Point, *_rest: Any) -> Measured | Unfit:
        asked.append(point)
        seconds = {1: 2.0, 2: 1.0}[point.micro_batch] * (1.25 if point.sharded else 1) * (point.pieces**0.5)
        return Measured([seconds], 1, 6.0, 1.0)

    monkeypatch.setattr(campaign_module, "run_isolated", answer)
    config = settings(fsdp=True, pieces="2,4", recompute="mlp,none", rounds=1)
    bar, campaign = QuietProgressBar(), Campaign(job_of(config))
    run(campaign, config, bar=bar)
    best, smallest = Point("nano2", 2, "float32"), Point("nano2", 1, "float32")
    sharded, cut = replace(best, sharded=True), [replace(smallest, pieces=count) for count in (2, 4)]
    assert asked[4:7] == [sharded, *cut]
    assert asked[7:-1] == [Point("nano2", 2, "float32", ("mlp",)), best, sharded, smallest, *cut]
    assert bar.done == len(asked) <= count_measurements(config, our_points(config), [], flash=False)
    metrics, rows = summarize(campaign, "x")
    assert metrics["fsdp_ratio"] == pytest.approx(0.8)
    assert (metrics["pieces_2_work"], metrics["pieces_4_work"]) == pytest.approx((2**0.5, 2))
    assert [row["best"] for row in rows if row["table"] == "train"].count(True) == 1
    assert [row["planned_bytes"] is None for row in rows[:7]] == [False] * 5 + [True] * 2


def test_precisions_of_ours_by_hand() -> None:
    """Of a step of 1 s in bfloat16 the blocks with FP8 take 0.6 s, in FP8 0.4 s: at best 1 / (0.4 + 0.4)."""
    config = settings(precision="bfloat16,fp8-tensor")
    wide, fp8 = (Point("nano2", 1, precision) for precision in config.precision)
    records = {wide: Record([1.0], 100, 6.0, 1.0), fp8: Record([0.85], 100, 6.0, 1.0)}
    rest = {(FORWARD, OUTER): 0.1, (BACKWARD, LOSS): 0.2, (OPTIMIZER, OPTIMIZER): 0.1}
    examined = {
        wide: Examined({(FORWARD, "mlp"): 0.2, (BACKWARD, "mamba"): 0.4, **rest}, [], 0.0),
        fp8: Examined({(FORWARD, "mlp"): 0.15, (BACKWARD, "mamba"): 0.25, **rest}, [], 0.0),
    }
    job = job_of(config, fp8=True, device="cuda")
    metrics, rows = summarize(Campaign(job, records, examined), "x")
    assert metrics["fp8_tensor_step_ratio"] == pytest.approx(1 / 0.85)
    assert metrics["fp8_tensor_block_ratio"] == pytest.approx(1.5)
    assert metrics["fp8_tensor_amdahl"] == pytest.approx(1.25)
    assert metrics["fp8_tensor_amdahl_share"] == pytest.approx(1 / 0.85 / 1.25)
    assert metrics["tok_per_s_x"] == pytest.approx(128 / 0.85)
    assert [row["best"] for row in rows[:2]] == [True, True]
    errors = [row["peak_bytes"] / row["planned_bytes"] - 1 for row in rows[:2]]
    assert metrics["plan_memory_error_max"] == pytest.approx(max(map(abs, errors)), abs=1e-4)


def test_the_blocks_that_fp8_leaves_out_are_a_kind_of_their_own() -> None:
    config = settings(shape={"pattern": "M-M*-M-M"})
    kinds = ["mamba", "attention", "mlp", "mamba"]
    assert job_of(config, fp8=True).kinds == [OUTER, OUTER, *kinds, OUTER, OUTER]
    assert job_of(config).kinds[2:6] == kinds


def test_a_way_of_transformers_that_differs_or_fails_is_a_row_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(_function: Any, _job: Job, point: Point, *_rest: Any) -> Measured | Unfit:
        if point.side == "hf" and point.precision == HALF_WEIGHTS:
            raise Nano2Error("no such kernel")
        coarse = point.side == "hf" and bool(point.recompute)
        return Measured([1.0], 1, 6.1 if coarse else 6.0, 1.0)

    monkeypatch.setattr(campaign_module, "run_isolated", answer)
    config = settings(against="hf", precision="bfloat16", micro_batch="1", rounds=0)
    campaign = Campaign(job_of(config))
    run(campaign, config, their_points(config, ["mamba"], ["bfloat16"]))
    reasons = {
        (point.precision, bool(point.recompute)): record.reason
        for point, record in campaign.records.items()
        if point.side == "hf" and point.attention == "sdpa"
    }
    assert reasons[AUTOCAST, False] == ""
    assert "differs from nano2, micro-batch 1" in reasons[AUTOCAST, True]
    assert reasons[HALF_WEIGHTS, False] == "it failed: no such kernel"
    best = campaign.best("hf")
    assert best is not None
    assert (best.precision, best.recompute) == (AUTOCAST, ())


def test_what_keeps_documents_apart_in_transformers() -> None:
    ids_BT = torch.tensor([[0, 0, 0, 1, 1, -1], [0, 1, 2, 2, 2, 2]])
    given = apart(ids_BT)
    assert given["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 0, 1, 2, 3]]
    assert given["seq_idx"].tolist() == [[0, 0, 0, 1, 1, 2], [0, 1, 2, 2, 2, 2]]
    assert given["seq_idx"].dtype == torch.int32


def test_packed_rows_are_the_same_to_transformers_where_no_mamba_kernel_is_needed() -> None:
    job = job_of(settings(documents=3, shape={"pattern": "*-*-"}))
    (ours,), (theirs,) = (train(job, Point(side, 2, "float32"), 1, Observer()) for side in ("nano2", "hf"))
    (whole,) = train(job_of(settings(shape={"pattern": "*-*-"})), Point("hf", 2, "float32"), 1, Observer())
    assert theirs.loss == pytest.approx(ours.loss, abs=1e-5)
    assert theirs.gradient_norm == pytest.approx(ours.gradient_norm, rel=1e-3)
    assert abs(whole.gradient_norm - ours.gradient_norm) > 0.01


def test_what_transformers_may_choose_from() -> None:
    config = settings(precision="bfloat16", micro_batch="1,2,4")
    both = their_points(config, ["mamba"], ["float32", "bfloat16"])
    assert {point.precision for point in both} == {"float32", AUTOCAST, HALF_WEIGHTS}
    assert len(both) == 3 * 2 * 3
    assert {point.precision for point in their_points(config, ["mamba"], ["float32"])} == {"float32"}
    exact = their_points(settings(), ["mamba"], ["float32", "bfloat16"])
    assert {point.precision for point in exact} == {"float32"}
    assert in_turns([1, 2, 3], [7]) == [1, 7, 2, 3]  # type: ignore[list-item]


def test_rows_of_random_tokens_hold_as_many_documents_as_asked_for() -> None:
    config = settings(documents=3)
    rows = step_rows(config, model_shape(config))
    assert documents_in(rows) == 4 * 3
    assert rows.count == 4 * (32 - 3)
    assert rows.input_ids_BT.shape == (4, 32)
    again = from_arrays(as_arrays(step_rows(config, model_shape(config))))
    assert torch.equal(rows.labels_BT, again.labels_BT)
    other = step_rows(settings(seed=1), model_shape(config))
    assert not torch.equal(rows.input_ids_BT, other.input_ids_BT)


@pytest.fixture(scope="module")
def packed_rows(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    return prepared(folder, tokenizer_directory, {"web": [story(number, 3) for number in range(60)]})


def test_packed_rows_of_a_dataset_on_a_model(model: Path, packed_rows: Path, tmp_path: Path) -> None:
    given: Mapping[str, Any] = {
        "preset": None, "model": model, "data": [str(packed_rows)], "seq_len": None, "micro_batch": "2"
    }  # fmt: skip
    config = settings(**given)
    whole = step_rows(config, model_shape(config))
    assert documents_in(whole) > len(whole.input_ids_BT) == 4
    with pytest.raises(UsageError, match="cannot keep the documents of a row apart"):
        bench(tmp_path / "out", **given, against="hf")
    outcome = bench(tmp_path / "out", **given, against="hf", documents=1)
    assert outcome.result.metrics["hf_loss_gap"] < 1e-4
    provenance = read_provenance(tmp_path / "out")
    assert provenance is not None
    assert {parent.kind for parent in provenance.parents} == {"model", "dataset"}
    with pytest.raises(UsageError, match="the embedding only 64 rows"):
        bench(tmp_path / "no", **{**given, "model": None, "preset": "tiny", "shape": {"vocab_size": 64}})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"batch_tokens": 96, "micro_batch": "1,2"},
            UsageError,
            "no whole number of micro-batches of 2 x 32",
        ),
        ({"preset": "huge"}, UsageError, "unknown preset 'huge'"),
        ({"shape": {"hidden": 3}}, UsageError, "hidden"),
        ({"seq_len": 1024, "batch_tokens": 2048}, UsageError, "longer than the 512"),
        ({"documents": 2, "against": "hf"}, UsageError, "cannot keep the documents"),
        ({"result": "figures.txt"}, UsageError, "no name for a result file"),
        ({"pieces": "3"}, UsageError, "pieces: rows of 32 tokens have no 3 equal pieces"),
    ],
)
def test_runs_that_are_refused(
    changes: dict[str, Any], error: type[Nano2Error], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        bench(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": None}, "give either preset or model"),
        ({"model": "m"}, "give either preset or model"),
        ({"preset": None, "model": "m", "shape": {"hidden_size": 8}}, "the shape of a model is its own"),
        ({"data": ["d"]}, "seq_len is for random tokens"),
        ({"data": ["d"], "seq_len": None, "documents": 2}, "documents is 1 with data"),
        ({"documents": 33}, "more documents than tokens"),
        ({"micro_batch": "1,1"}, "named twice in micro_batch"),
        ({"micro_batch": "0"}, "greater than or equal to 1"),
        ({"recompute": "mamba+moe"}, "'moe' is no kind of block"),
        ({"recompute": ""}, "recompute"),
        ({"against": "megatron"}, "hf"),
        ({"name": "4B!"}, "name"),
        ({"precision": "fp8,bfloat16"}, "FP8 is compared with what comes first"),
        ({"pieces": "1"}, "greater than or equal to 2"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


def test_the_plan_has_a_row_a_point_and_refuses_what_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(preset="mini-8m", recompute="none,mamba+mlp", against="hf")
    plan = TRAIN.call_plan(config)
    assert plan is not None
    assert [(row["micro_batch"], row["fits"]) for row in plan.rows] == [(1, True), (2, True)] * 2
    assert plan.rows[3]["total_bytes"] < plan.rows[1]["total_bytes"] == plan.peak_bytes
    assert plan.refusals == []
    monkeypatch.setattr("stages.bench.train.plan.available_bytes", lambda _device: 2**20)
    refused = TRAIN.call_plan(config)
    assert refused is not None
    assert refused.refusals[0].startswith("the smallest point needs")


def test_memory_of_a_measuring_process_is_limited_by_what_was_said() -> None:
    job = job_of(settings(), memory=2**20)
    outcome = run_isolated(measure_point, job, Point("nano2", 1, "float32"))
    assert isinstance(outcome, Unfit)
    assert np.isfinite(
        run_isolated(measure_point, replace(job, memory=2**33), Point("nano2", 1, "float32")).loss
    )  # type: ignore[union-attr]
