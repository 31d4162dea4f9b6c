"""`nano2 prune`: importance, then shapes that are tried, of which the best is kept (report, section 4)."""

import os
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from model.config import HybridConfig
from model.errors import UsageError
from model.loading import load, read_config
from stages.common.data.text_tokenizer import refuse_other_tokenizer
from stages.common.evaluation.scoring import check_ranking
from stages.common.evaluation.tasks import single_tasks, take_tasks
from stages.common.stage import StageContext, StageResult
from stages.common.training.batches import TrainingData
from stages.common.training.hardware import resolve_device
from stages.prune.benchmark import Benchmark
from stages.prune.config import PruneConfig
from stages.prune.importance import store
from stages.prune.importance.measure import measure
from stages.prune.importance.store import Importance
from stages.prune.kept import Shape, choose
from stages.prune.search.blocks import Blocks
from stages.prune.search.candidates import Candidate, Candidates
from stages.prune.searching import find_candidates, shallowest
from stages.prune.throughput import Speedups
from stages.prune.trials import Trials

IMPORTANCE = Path("prune") / store.FILE
"""In OUT. Not beside the weights, where vLLM would read it as a part of them."""


def run(config: PruneConfig, context: StageContext) -> StageResult:
    """Rows are the shapes that were tried."""
    device = resolve_device(config.device)
    context.device = str(device)
    whole = read_config(config.model)
    data = _data(config)
    importance = _importance(config, whole, data, context, device)

    @cache
    def blocks_at(depth: int) -> Blocks:
        shape = replace(Shape.of(whole), layers=depth)
        kept = choose(importance, whole, shape, keep=config.least.by_letter).layers
        return Blocks.of("".join(whole.pattern[block] for block in kept))

    candidates = find_candidates(config, whole, blocks_at)
    candidates.check()
    benchmark = None
    if config.evaluation is not None:
        tasks = take_tasks(config.evaluation, config.model)
        check_ranking(single_tasks(tasks), ())
        benchmark = Benchmark(config.evaluation, tasks, context, device)
    trials = Trials(config, context, whole, importance, data, device, benchmark)
    speeds = Speedups(context.run_dir / "speeds.json", whole, config.batch, device)
    tried, best = _search(config, candidates, trials, speeds)

    _take(trials.of(best.shape).model, context.staging)
    (context.staging / IMPORTANCE.parent).mkdir()
    store.save(importance, context.staging / IMPORTANCE)
    rows = {
        candidate.shape: _row(candidate, trials, speeds if len(tried) > 1 else None) for candidate in tried
    }
    before = {f"model_{name}": value for name, value in trials.held_out_of_model().items()}
    return StageResult(
        metrics={**rows[best.shape], **before},
        rows=[{**row, "kept": shape == best.shape} for shape, row in rows.items()],
    )


def _data(config: PruneConfig) -> TrainingData | None:
    """UsageError where its tokenizer is not the model's, or where there is nothing to compare shapes by."""
    if not config.data:
        return None
    data = TrainingData(config.data)
    refuse_other_tokenizer(data.directory, config.model)
    if config.compares and config.evaluation is None and not data.validation_places(1):
        raise UsageError(
            "no documents were held out, by which several shapes could be compared",
            where=str(data.directory),
            remedy="prepare the data with --validation-fraction, or compare them with --evaluation tasks=...",
        )
    return data


def _importance(
    config: PruneConfig,
    whole: HybridConfig,
    data: TrainingData | None,
    context: StageContext,
    device: torch.device,
) -> Importance:
    """Read from the file that was given, or measured."""
    hashes = {item.field: item.content_hash for item in context.inputs if item.field != "data"}
    if config.importance is not None:
        return store.load(config.importance, whole, model=hashes["model"])
    assert data is not None
    return measure(
        load(config.model, device),
        data,
        config,
        deepest=shallowest(config, whole),
        keep=config.least.by_letter,
        model=hashes["model"],
        datasets=[item.content_hash for item in context.inputs if item.field == "data"],
        context=context,
    )


def _search(
    config: PruneConfig, candidates: Candidates, trials: Trials, speeds: Speedups
) -> tuple[list[Candidate], Candidate]:
    """All that were tried, and the best: of the shapes given, or of the depths at whole widths and then of the widths at the
    best depth."""

    def score(candidate: Candidate) -> float:
        return trials.of(candidate.shape).score

    if candidates.given:
        wide = speeds.fast_enough(candidates.given, config.min_speedup)
        return wide, max(wide, key=score)
    depths = candidates.depths()
    depth = max(depths, key=score) if len(depths) > 1 else depths[0]
    wide = speeds.fast_enough(candidates.at(depth.shape.layers), config.min_speedup, config.top_k)
    by_shape = {candidate.shape: candidate for candidate in [*(depths if len(depths) > 1 else []), *wide]}
    return list(by_shape.values()), max(wide, key=score)


def _row(candidate: Candidate, trials: Trials, speeds: Speedups | None) -> dict[str, Any]:
    speed = speeds.figures(candidate) if speeds is not None else {}
    return {**candidate.row(), **trials.of(candidate.shape).figures, **speed}


def _take(model: Path, staging: Path) -> None:
    """Every file of the model, which also stays where it is until OUT is whole."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            shutil.copyfile(source, target)

    shutil.copytree(model, staging, copy_function=link, dirs_exist_ok=True)
