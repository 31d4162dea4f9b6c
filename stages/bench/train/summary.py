"""Metrics and tables of a campaign.

tok_per_s: tokens of a step over the median time of the timed steps. spread: of the step times, (90th - 10th percentile) /
median. tflops: 6 x (parameters - input embedding) x tok_per_s / 1e12; recomputation is no work in it. mfu: tflops over the
rate of a large matrix product of the row's precision, measured in the same run. peak: on a CPU the largest resident size
over what the process held before the model was built, on a GPU the largest that PyTorch allocated; weights, gradients and
optimizer included. hf_ratio: our tok_per_s over theirs, hf_memory_ratio: our peak over theirs, each side at its best point.
hf_loss_gap: the difference of the first step's losses there.
"""

from model.config import HybridConfig
from model.counting import count_parameters
from stages.bench.process import spread
from stages.bench.train.campaign import Campaign, Record
from stages.bench.train.points import Point
from stages.bench.train.stopwatch import BACKWARD, EMBEDDING, FORWARD, LOSS, OPTIMIZER
from stages.common.results import TABLE, Cell

Metrics = dict[str, float | int]
Row = dict[str, Cell]
KINDS = (EMBEDDING, "mamba", "attention", "mlp", LOSS, OPTIMIZER)


def useful_flops_per_token(shape: HybridConfig) -> int:
    """Of forward and backward pass: 6 for each parameter that multiplies a token."""
    return 6 * count_parameters(shape).without_input_embedding


def summarize(campaign: Campaign, name: str) -> tuple[Metrics, list[Row]]:
    """(metrics, rows); the tables are `train`, `time` and, of a profile, `operations`. name: ends each metric's name.

    At least one of our points fits.
    """
    best = {point.side: point for point in campaign.winners()}
    ours = _figures(campaign, best["nano2"])
    metrics = dict(ours)
    if "hf" in best:
        theirs = _figures(campaign, best["hf"])
        metrics["hf_ratio"] = ours["tok_per_s"] / theirs["tok_per_s"]
        metrics["hf_memory_ratio"] = ours["peak_bytes"] / theirs["peak_bytes"]
        mine, its = (campaign.records[best[side]].loss for side in ("nano2", "hf"))
        metrics["hf_loss_gap"] = abs(mine - its)
        metrics |= {f"hf_{figure}": value for figure, value in theirs.items()}
    counts = count_parameters(campaign.job.shape)
    metrics["parameters"] = counts.total
    metrics["parameters_without_input_embedding"] = counts.without_input_embedding
    for precision, rate in campaign.job.rates.items():
        metrics[f"matrix_tflops_{precision}"] = rate / 1e12
    ending = f"_{name}" if name else ""
    return {figure + ending: value for figure, value in metrics.items()}, [
        *(_train_row(campaign, point, record) for point, record in campaign.records.items()),
        *_time_rows(campaign),
        *_operation_rows(campaign),
    ]


def _tokens(campaign: Campaign) -> int:
    return int(campaign.job.rows[0].size)


def _figures(campaign: Campaign, point: Point) -> Metrics:
    record = campaign.records[point]
    tok_per_s = _tokens(campaign) / record.step_seconds
    flops = tok_per_s * useful_flops_per_token(campaign.job.shape)
    return {
        "tok_per_s": tok_per_s,
        "tflops": flops / 1e12,
        "mfu": flops / campaign.job.rates[point.products],
        "peak_bytes": record.peak_bytes,
        "micro_batch": point.micro_batch,
    }


def _train_row(campaign: Campaign, point: Point, record: Record) -> Row:
    figures: dict[str, float | int | None] = dict.fromkeys(("tok_per_s", "tflops", "mfu", "peak_bytes"))
    if record.fits:
        figures = dict(_figures(campaign, point))
        del figures["micro_batch"]
    return {
        TABLE: "train",
        "side": point.side,
        "config": point.config(),
        "micro_batch": point.micro_batch,
        **figures,
        "spread": spread(record.seconds) if record.fits else None,
        "steps": len(record.seconds),
        "loss": round(record.loss, 6) if record.fits else None,
        "gradient_norm": round(record.gradient_norm, 6) if record.fits else None,
        "best": point == campaign.best(point.side),
        "unfit": record.reason or None,
    }


def _time_rows(campaign: Campaign) -> list[Row]:
    rows: list[Row] = []
    for side, examined in campaign.examined.items():
        whole = sum(examined.times.values())
        for kind in KINDS:
            parts = {phase: examined.times.get((phase, kind)) for phase in (FORWARD, BACKWARD, OPTIMIZER)}
            if all(seconds is None for seconds in parts.values()):
                continue
            seconds = sum(part for part in parts.values() if part is not None)
            rows.append(
                {
                    TABLE: "time",
                    "side": side,
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
            "side": side,
            "operation": operation.name,
            "calls": operation.calls,
            "self_ms": _milliseconds(operation.seconds),
            "self_share": round(operation.seconds / examined.operation_seconds, 4),
        }
        for side, examined in campaign.examined.items()
        for operation in examined.operations
    ]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1e3 * seconds, 3)
