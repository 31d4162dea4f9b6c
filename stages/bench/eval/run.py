"""`nano2 bench eval`: this core's evaluation against lm-eval's hf backend on the CPU."""

import importlib.util
import tempfile
from pathlib import Path

import torch

from model.errors import PlanRefusedError
from model.loading import read_config
from model.tokenizer import load_tokenizer
from stages.bench.eval.campaign import Measurer
from stages.bench.eval.config import EvalBenchConfig
from stages.bench.eval.fresh import write_fresh_artifact
from stages.bench.eval.measure import count_mismatches, count_text_tokens
from stages.bench.eval.summary import summarize
from stages.bench.eval.sweep import FULL, PRESET, QUICK
from stages.bench.isolation import run_isolated
from stages.bench.publishing import check_writable, publish
from stages.common.stage import StageContext, StageResult


def run(config: EvalBenchConfig, context: StageContext) -> StageResult:
    """Measures, writes the result file if one is asked for, and returns its metrics and each side's best settings."""
    if config.result_path is not None:
        check_writable(config.result_path)
    if importlib.util.find_spec("accelerate") is None:
        raise PlanRefusedError("lm-eval's hf backend needs accelerate", remedy="pip install accelerate")
    if config.model is not None:
        load_tokenizer(config.model, read_config(config.model).vocab_size)
        return _measure(config, context, config.model)
    with tempfile.TemporaryDirectory() as directory:
        write_fresh_artifact(Path(directory), PRESET)
        return _measure(config, context, Path(directory))


def _measure(config: EvalBenchConfig, context: StageContext, directory: Path) -> StageResult:
    mix = QUICK if config.quick else FULL
    threads = config.threads or torch.get_num_threads()
    with context.reporter.progress("measuring", total=None, unit="measurement") as bar:
        text_tokens = run_isolated(count_text_tokens, directory, mix)
        campaign = Measurer(directory, mix, threads, bar).run()
        bar.update(0, now="comparing texts")
        texts = campaign.answers["generate", "nano2"], campaign.answers["generate", "hf"]
        mismatches = run_isolated(count_mismatches, directory, mix, *texts, threads)
    metrics, rows = summarize(campaign, mix, text_tokens, mismatches, threads)
    notes = ["stages/bench/eval/summary.py defines each figure"]
    return publish(config, context, metrics, rows, notes, threads)
