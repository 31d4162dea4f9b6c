"""`nano2 bench train`: training steps of one shape, alone or against transformers."""

import torch

from model.artifact.environment import describe_device
from model.artifact.staging import write_text_atomic
from model.errors import PlanRefusedError
from model.kernels.choice import describe
from stages.bench.isolation import run_isolated
from stages.bench.publishing import check_writable
from stages.bench.train.campaign import Campaign, count_measurements, run_campaign
from stages.bench.train.config import TrainBenchConfig
from stages.bench.train.measure import measure_plain_rates, measure_rates
from stages.bench.train.plot import sweep_plot
from stages.bench.train.points import SLOW, our_points, their_points
from stages.bench.train.rows import as_arrays, documents_in, model_shape, step_rows
from stages.bench.train.sides import Job
from stages.bench.train.summary import Row, summarize
from stages.common.quotes import markdown_table
from stages.common.results import TABLE, write_result
from stages.common.stage import StageContext, StageResult
from stages.common.training.hardware import available_bytes, resolve_device

PRECISIONS = {"float32": ("float32",), "bfloat16": ("float32", "bfloat16")}
"""Of the products of either side, by our precision."""
SHOWN = (
    "side",
    "config",
    "micro_batch",
    "tok_per_s",
    "spread",
    "tflops",
    "mfu",
    "peak_bytes",
    "best",
    "unfit",
)
"""Columns for the terminal; the files have all."""


def run(config: TrainBenchConfig, context: StageContext) -> StageResult:
    """Writes train.json (a result file), table.md, plot.svg and, of a profile, trace-SIDE.json.

    PlanRefusedError if memory runs out at every one of our points.
    """
    if config.result is not None:
        check_writable(config.result)
    device = resolve_device(config.device)
    context.device = device.type
    threads = config.threads or torch.get_num_threads()
    shape = model_shape(config)
    rows = step_rows(config, shape)
    precisions = PRECISIONS[config.precision]
    rates = run_isolated(measure_rates, precisions, device.type, threads)
    job = Job(
        shape=shape,
        model=config.model,
        seed=config.seed,
        rows=as_arrays(rows),
        device=device.type,
        threads=threads,
        warmup=config.warmup,
        steps=config.steps,
        memory=available_bytes(device),
        rates=rates,
    )
    for kernel in describe(device.type, getattr(torch, config.precision)):
        context.reporter.log(f"{kernel.operation}: {kernel.path} ({kernel.reason})")

    ours, theirs, notes = our_points(config), [], []
    if config.against is not None:
        plain = run_isolated(measure_plain_rates, precisions, device.type, threads)
        worth = [precision for precision, rate in plain.items() if rate >= max(plain.values()) / SLOW]
        theirs = their_points(config, sorted(set(job.kinds)), worth)
        if config.precision not in worth:
            notes.append(
                f"hf is not tried in {config.precision}: torch.mm is less than 1/{SLOW} as fast in it as in {worth[0]}"
            )
    campaign = Campaign(job)
    traces = context.staging if config.profile else None
    total = count_measurements(ours, theirs, config.rounds)
    with context.reporter.progress("measuring", total=total, unit="measurement") as bar:
        run_campaign(campaign, ours, theirs, rounds=config.rounds, traces=traces, bar=bar)
    if campaign.best("nano2") is None:
        raise PlanRefusedError(
            f"memory ran out at every point: {campaign.records[ours[0]].reason}",
            where=str(ours[0]),
            remedy="lower --micro-batch or --seq-len, or try --recompute mamba+mlp",
        )

    metrics, tables = summarize(campaign, config.name)
    tables += _setup_rows(config, campaign, documents_in(rows))
    described = describe_device(device.type) | ({"threads": threads} if device.type == "cpu" else {})
    for path in (context.staging / "train.json", config.result):
        if path is not None:
            write_result(path, command=context.command, metrics=metrics, rows=tables, device=described)
    points = [row for row in tables if row[TABLE] == "train"]
    write_text_atomic(context.staging / "table.md", _markdown(tables))
    write_text_atomic(context.staging / "plot.svg", sweep_plot(points))
    if theirs and campaign.best("hf") is None:
        notes.append("memory ran out at every point of hf: there is no hf_ratio")
    return StageResult(
        metrics=dict(metrics),
        rows=[{name: row[name] for name in SHOWN} for row in points],
        notes=["stages/bench/train/summary.py defines each figure", *notes],
    )


def _setup_rows(config: TrainBenchConfig, campaign: Campaign, documents: int) -> list[Row]:
    """What both sides were given, and the shape."""
    job = campaign.job
    sequences, seq_len = job.rows[0].shape
    given = {
        "model": config.preset or str(config.model),
        "data": " ".join(map(str, config.data)) or "random tokens",
        "batch_tokens": sequences * seq_len,
        "seq_len": seq_len,
        "documents_in_step": documents,
        "precision": config.precision,
        "optimizer": "fused AdamW with moments in the precision of the weights; gradients clipped",
        "warmup": config.warmup,
        "steps": config.steps,
        "rounds": config.rounds,
        **job.shape.model_dump(exclude_defaults=True, mode="json"),
    }
    return [
        {TABLE: "setup", "field": name, "value": value if isinstance(value, int | float) else str(value)}
        for name, value in given.items()
    ]


def _markdown(rows: list[Row]) -> str:
    """The tables one below the other."""
    tables = dict.fromkeys(str(row[TABLE]) for row in rows)
    parts = []
    for name in tables:
        of_table = [row for row in rows if row[TABLE] == name]
        columns = [column for column in of_table[0] if column != TABLE]
        parts.append(f"## {name}\n\n{markdown_table(of_table, columns)}\n")
    return "\n".join(parts)
