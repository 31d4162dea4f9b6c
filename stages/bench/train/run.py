"""`nano2 bench train`: training steps of one shape, alone or against transformers."""

from collections.abc import Sequence
from pathlib import Path

import torch

from model.artifact.environment import describe_device
from model.artifact.staging import write_text_atomic
from model.config import KINDS
from model.errors import PlanRefusedError, UsageError
from model.kernels.choice import KernelPath, describe
from stages.bench.isolation import run_isolated
from stages.bench.publishing import check_writable
from stages.bench.train.campaign import Campaign, count_measurements, run_campaign
from stages.bench.train.config import WIDE, TrainBenchConfig
from stages.bench.train.hf import KERNELS, has_flash, has_kernels
from stages.bench.train.job import Job
from stages.bench.train.measure import measure_plain_rates, measure_rates
from stages.bench.train.plot import sweep_plot
from stages.bench.train.points import SLOW, our_points, their_points
from stages.bench.train.rows import as_arrays, documents_in, model_shape, several_documents, step_rows
from stages.bench.train.summary import Metrics, Row, summarize
from stages.common.quotes import markdown_table
from stages.common.results import TABLE, write_run
from stages.common.stage import StageContext, StageResult
from stages.common.training.batches import Batch
from stages.common.training.hardware import available_bytes, resolve_device

SHOWN = (
    "side",
    "config",
    "micro_batch",
    "tok_per_s",
    "spread",
    "tflops",
    "mfu",
    "peak_bytes",
    "planned_bytes",
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
    notes = []
    if config.against is not None and not has_kernels(device.type):
        _check_documents(rows)
        if device.type == "cuda":
            notes.append(f"hf runs in plain PyTorch: {' and '.join(KERNELS)} are not installed")
    ours, theirs = our_points(config), []
    precisions = ["float32"] if set(config.precision) == {"float32"} else ["float32", "bfloat16"]
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
        rates=run_isolated(measure_rates, precisions, device.type, threads),
        fp8=any(point.products not in WIDE for point in ours),
    )
    kernels = describe(device.type, getattr(torch, ours[0].activations), shape)
    for kernel in kernels:
        context.reporter.log(f"{kernel.operation}: {kernel.path} ({kernel.reason})")

    if config.against is not None:
        plain = run_isolated(measure_plain_rates, precisions, device.type, threads)
        worth = [precision for precision, rate in plain.items() if rate >= max(plain.values()) / SLOW]
        kinds = sorted(kind for kind, letter in KINDS.items() if letter in shape.pattern)
        theirs = their_points(config, kinds, worth)
        notes += [
            f"hf is not tried in {precision}: torch.mm is less than 1/{SLOW} as fast in it as in {worth[0]}"
            for precision in precisions
            if precision not in worth
        ]
    campaign = Campaign(job)
    described = describe_device(device.type) | ({"threads": threads} if device.type == "cpu" else {})
    more = [*_setup_rows(config, campaign, documents_in(rows)), *_kernel_rows(kernels)]

    def write(*paths: Path | None) -> tuple[Metrics, list[Row]]:
        metrics, tables = summarize(campaign, config.name)
        tables += more
        for path in paths:
            if path is not None:
                write_run(
                    path, config.name, command=context.command, metrics=metrics, rows=tables, device=described
                )
        return metrics, tables

    def tell() -> None:
        if campaign.best("nano2") is not None:
            write(config.result)

    flash = has_flash(device.type)
    total = count_measurements(config, ours, theirs, flash=flash)
    with context.reporter.progress("measuring", total=total, unit="measurement") as bar:
        run_campaign(
            campaign,
            config,
            theirs,
            flash=flash,
            traces=context.staging if config.profile else None,
            bar=bar,
            tell=tell,
        )
    if campaign.best("nano2") is None:
        raise PlanRefusedError(
            f"memory ran out at every point: {campaign.records[ours[0]].reason}",
            where=str(ours[0]),
            remedy="lower --micro-batch or --seq-len, or try --recompute mamba+mlp",
        )

    metrics, tables = write(context.staging / "train.json", config.result)
    points = [row for row in tables if row[TABLE] == "train"]
    write_text_atomic(context.staging / "table.md", _markdown(tables))
    write_text_atomic(context.staging / "plot.svg", sweep_plot(points))
    if theirs and campaign.best("hf") is None:
        notes.append(f"there is no hf_ratio: no point of hf fits: {campaign.records[theirs[0]].reason}")
    return StageResult(
        metrics=dict(metrics),
        rows=[{name: row[name] for name in SHOWN} for row in points],
        notes=["stages/bench/train/summary.py defines each figure", *notes],
    )


def _check_documents(rows: Batch) -> None:
    if several_documents(rows):
        raise UsageError(
            "transformers cannot keep the documents of a row apart without mamba-ssm's kernels on a GPU",
            where="against",
            remedy="pass --documents 1, which reads each row as one document on both sides",
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
        "precision": " ".join(config.precision),
        "optimizer": "fused AdamW with moments in the precision of the weights; gradients clipped",
        "warmup": config.warmup,
        "steps": config.steps,
        "rounds": config.rounds,
        **(
            {"hf_kernels": " ".join(KERNELS) if has_kernels(job.device) else "PyTorch"}
            if config.against
            else {}
        ),
        **job.shape.model_dump(exclude_defaults=True, mode="json"),
    }
    return [
        {TABLE: "setup", "field": name, "value": value if isinstance(value, int | float) else str(value)}
        for name, value in given.items()
    ]


def _kernel_rows(kernels: Sequence[KernelPath]) -> list[Row]:
    """What ours took; theirs is said in the setup."""
    return [
        {TABLE: "kernels", "operation": kernel.operation, "path": kernel.path, "reason": kernel.reason}
        for kernel in kernels
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
