"""`nano2 bench cpu`: this core against transformers on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from model.artifact.environment import describe_device
from model.errors import UsageError
from stages.bench.cpu.campaign import count_measurements, run_campaign, start_campaign
from stages.bench.cpu.config import CpuBenchConfig
from stages.bench.cpu.summary import summarize
from stages.bench.cpu.sweep import FULL, QUICK
from stages.common.results import TABLE, write_result
from stages.common.stage import StageContext, StageResult


def run(config: CpuBenchConfig, context: StageContext) -> StageResult:
    """Measures, writes the result file if one is asked for, and returns its metrics and its best rows."""
    sweep = QUICK if config.quick else FULL
    threads = config.threads or torch.get_num_threads()
    out = config.result_path
    if out is not None:
        check_writable(out)
    progress = context.reporter.progress
    with progress("matrix products", total=len(sweep.precisions), unit="precision") as bar:
        campaign = start_campaign(sweep, threads, bar)
    notes = ["stages/bench/cpu/summary.py defines each figure"]
    whole = sweep
    sweep = whole.without_slow_training({p: campaign.matmul_rate(p, "torch.mm") for p in whole.precisions})
    for precision in set(whole.train_precisions) - set(sweep.train_precisions):
        notes.append(f"no training in {precision}: PyTorch's products in it are less than a quarter as fast")
    with progress("measuring", total=count_measurements(sweep), unit="measurement") as bar:
        run_campaign(campaign, sweep, threads, bar)
    metrics, rows = summarize(campaign, threads)
    if out is not None:
        write_result(
            out,
            command=context.command,
            metrics=metrics,
            rows=rows,
            device=describe_device() | {"threads": threads},
        )
        notes.append(f"{out} written")
    return StageResult(
        metrics=dict(metrics),
        rows=[
            {key: cell for key, cell in row.items() if key not in (TABLE, "best")}
            for row in rows
            if row.get("best")
        ],
        notes=notes,
    )


def check_writable(out: Path) -> None:
    """Refuse what could not be written before minutes are spent on measuring. Creates the parent directory."""
    remedy = "give -o a file name ending in .json in a directory that you can write to"
    if out.suffix != ".json" or out.is_dir():
        raise UsageError("is no name for a result file", where=str(out), remedy=remedy)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"its directory cannot be made ({error.strerror})", where=str(out), remedy=remedy
        ) from error
    if not os.access(out.parent, os.W_OK):
        raise UsageError("its directory cannot be written to", where=str(out), remedy=remedy)
