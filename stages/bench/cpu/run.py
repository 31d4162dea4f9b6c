"""`nano2 bench cpu`: this core against transformers on the CPU."""

from __future__ import annotations

import torch

from stages.bench.cpu.campaign import count_measurements, run_campaign, start_campaign
from stages.bench.cpu.config import CpuBenchConfig
from stages.bench.cpu.summary import summarize
from stages.bench.cpu.sweep import FULL, QUICK
from stages.bench.publishing import check_writable, publish
from stages.common.stage import StageContext, StageResult


def run(config: CpuBenchConfig, context: StageContext) -> StageResult:
    """Measures, writes the result file if one is asked for, and returns its metrics and its best rows."""
    sweep = QUICK if config.quick else FULL
    threads = config.threads or torch.get_num_threads()
    if config.result_path is not None:
        check_writable(config.result_path)
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
    return publish(config, context, metrics, rows, notes, threads)
