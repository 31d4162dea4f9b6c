"""Metrics and tables of a campaign.

tok_per_s: tokens of a step over the median time of the timed steps. spread: of the step times, (90th - 10th percentile) /
median. tflops: 6 x (parameters - input embedding) x tok_per_s / 1e12; recomputation is no work in it. mfu: tflops over the
rate of a large matrix product of the row's precision, measured in the same run. peak: on a CPU the largest resident size
over what the process held before the model was built, on a GPU the largest that PyTorch allocated; weights, gradients and
optimizer included. planned: by the formula of `--plan`. hf_ratio: our tok_per_s over theirs, hf_memory_ratio: our peak over
theirs, each side at its best point. hf_loss_gap: the difference of the first step's losses there.

What compares our own ways has no run's name in it. P_step_ratio: tok_per_s in precision P over that in the first precision,
each at its best point. P_block_ratio: of the blocks with FP8 products, seconds of forward and backward pass in the first
precision over those in P. P_amdahl: what the step gains if these blocks gain so much and nothing else does, 1 / (1 - s +
s / P_block_ratio), s their share of the step in the first precision; P_amdahl_share: how much of that P_step_ratio is.
fsdp_ratio: tok_per_s with parameters sharded over one rank, over that without. pieces_N_work: time of a step whose rows are
read in N pieces, over that of whole rows. plan_memory_error_max: the largest |peak / planned - 1| of our points.
"""

from dataclasses import replace

from model.config import KINDS as BLOCK_KINDS
from model.config import HybridConfig
from model.counting import count_parameters
from stages.bench.process import spread
from stages.bench.train.campaign import Campaign, Record
from stages.bench.train.job import OUTER
from stages.bench.train.plan import planned_bytes
from stages.bench.train.points import Point
from stages.bench.train.rows import from_arrays
from stages.bench.train.stopwatch import BACKWARD, EMBEDDING, FORWARD, LOSS, OPTIMIZER
from stages.common.results import TABLE, Cell

Metrics = dict[str, float | int]
Row = dict[str, Cell]
KINDS = (EMBEDDING, *BLOCK_KINDS, OUTER, LOSS, OPTIMIZER)


def useful_flops_per_token(shape: HybridConfig) -> int:
    """Of forward and backward pass: 6 for each parameter that multiplies a token."""
    return 6 * count_parameters(shape).without_input_embedding


def summarize(campaign: Campaign, name: str) -> tuple[Metrics, list[Row]]:
    """(metrics, rows); the tables are `train`, `time` and, of a profile, `operations`. name: ends each metric's name.

    At least one of our points fits.
    """
    best, hf = campaign.best("nano2"), campaign.best("hf")
    assert best is not None
    ours = _figures(campaign, best)
    metrics = dict(ours)
    if hf is not None:
        theirs = _figures(campaign, hf)
        metrics["hf_ratio"] = ours["tok_per_s"] / theirs["tok_per_s"]
        metrics["hf_memory_ratio"] = ours["peak_bytes"] / theirs["peak_bytes"]
        mine, its = campaign.records[best].loss, campaign.records[hf].loss
        metrics["hf_loss_gap"] = abs(mine - its)
        metrics |= {f"hf_{figure}": value for figure, value in theirs.items()}
    counts = count_parameters(campaign.job.shape)
    metrics["parameters"] = counts.total
    metrics["parameters_without_input_embedding"] = counts.without_input_embedding
    for precision, rate in campaign.job.rates.items():
        metrics[f"matrix_tflops_{precision}"] = rate / 1e12
    ending = f"_{name}" if name else ""
    rows = [_train_row(campaign, point, record) for point, record in campaign.records.items()]
    named = {figure + ending: value for figure, value in metrics.items()}
    named |= _precisions(campaign) | _costs(campaign)
    if (
        campaign.job.device == "cuda"
    ):  # of a small model on a CPU, what PyTorch itself takes is more than the plan's
        named |= _plan_error(rows)
    return named, [
        *rows,
        *_time_rows(campaign),
        *_operation_rows(campaign),
    ]


def _precisions(campaign: Campaign) -> Metrics:
    """Each of our precisions against the first."""
    first, *others = dict.fromkeys(point.precision for point in campaign.records if point.side == "nano2")
    metrics: Metrics = {}
    base = campaign.best("nano2", first)
    for precision in others:
        point, name = campaign.best("nano2", precision), precision.replace("-", "_")
        if base is None or point is None:
            continue
        step_ratio = campaign.records[base].step_seconds / campaign.records[point].step_seconds
        metrics[f"{name}_step_ratio"] = step_ratio
        if not campaign.job.fp8 or not {base, point} <= set(campaign.examined):
            continue
        blocks, whole = _block_seconds(campaign, base), sum(campaign.examined[base].times.values())
        block_ratio = blocks / _block_seconds(campaign, point)
        amdahl = 1 / (1 - blocks / whole + blocks / whole / block_ratio)
        metrics[f"{name}_block_ratio"] = block_ratio
        metrics[f"{name}_amdahl"] = amdahl
        metrics[f"{name}_amdahl_share"] = step_ratio / amdahl
    return metrics


def _block_seconds(campaign: Campaign, point: Point) -> float:
    """Of the blocks that are no outer ones."""
    times = campaign.examined[point].times
    return sum(seconds for (_, kind), seconds in times.items() if kind in BLOCK_KINDS)


def _costs(campaign: Campaign) -> Metrics:
    """What sharding and pieces cost, against the same point without."""
    metrics: Metrics = {}
    for point, record in campaign.records.items():
        if point.competes or not record.fits:
            continue
        plain = campaign.records[replace(point, sharded=False, pieces=1)].step_seconds
        if point.sharded:
            metrics["fsdp_ratio"] = plain / record.step_seconds
        else:
            metrics[f"pieces_{point.pieces}_work"] = record.step_seconds / plain
    return metrics


def _plan_error(rows: list[Row]) -> Metrics:
    errors = [abs(error) for row in rows if isinstance(error := row["plan_error"], float)]
    return {"plan_memory_error_max": max(errors)}


def _tokens(campaign: Campaign) -> int:
    return int(campaign.job.rows[0].size)


def _figures(campaign: Campaign, point: Point) -> Metrics:
    record = campaign.records[point]
    tok_per_s = _tokens(campaign) / record.step_seconds
    flops = tok_per_s * useful_flops_per_token(campaign.job.shape)
    return {
        "tok_per_s": tok_per_s,
        "tflops": flops / 1e12,
        "mfu": flops / campaign.job.rates[point.activations],
        "peak_bytes": record.peak_bytes,
        "micro_batch": point.micro_batch,
    }


def _train_row(campaign: Campaign, point: Point, record: Record) -> Row:
    figures: dict[str, float | int | None] = dict.fromkeys(("tok_per_s", "tflops", "mfu", "peak_bytes"))
    if record.fits:
        figures = dict(_figures(campaign, point))
        del figures["micro_batch"]
    planned = None
    if point.side == "nano2":
        planned = planned_bytes(
            campaign.job.shape, point, from_arrays(campaign.job.rows), campaign.job.torch_device
        )
    return {
        TABLE: "train",
        "side": point.side,
        "config": point.config(),
        "micro_batch": point.micro_batch,
        **figures,
        "reserved_bytes": record.reserved_bytes or None,
        "planned_bytes": planned,
        "plan_error": round(record.peak_bytes / planned - 1, 4) if planned and record.fits else None,
        "spread": spread(record.seconds) if record.fits else None,
        "steps": len(record.seconds),
        "loss": round(record.loss, 6) if record.fits else None,
        "gradient_norm": round(record.gradient_norm, 6) if record.fits else None,
        "best": point in campaign.winners(),
        "unfit": record.reason or None,
    }


def _time_rows(campaign: Campaign) -> list[Row]:
    rows: list[Row] = []
    for point, examined in campaign.examined.items():
        whole = sum(examined.times.values())
        for kind in KINDS:
            parts = {phase: examined.times.get((phase, kind)) for phase in (FORWARD, BACKWARD, OPTIMIZER)}
            if all(seconds is None for seconds in parts.values()):
                continue
            seconds = sum(part for part in parts.values() if part is not None)
            rows.append(
                {
                    TABLE: "time",
                    "side": point.side,
                    "config": point.config(),
                    "kind": kind,
                    "forward_ms": _milliseconds(parts[FORWARD]),
                    "backward_ms": _milliseconds(parts[BACKWARD]),
                    "total_ms": _milliseconds(seconds),
                    "step_share": round(seconds / whole, 4),
                }
            )
    return rows


def _operation_rows(campaign: Campaign) -> list[Row]:
    return [
        {
            TABLE: "operations",
            "side": point.side,
            "config": point.config(),
            "operation": operation.name,
            "calls": operation.calls,
            "self_ms": _milliseconds(operation.seconds),
            "self_share": round(operation.seconds / examined.operation_seconds, 4),
        }
        for point, examined in campaign.examined.items()
        for operation in examined.operations
    ]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1e3 * seconds, 3)
