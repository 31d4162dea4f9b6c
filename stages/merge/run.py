"""`nano2 merge`: the models are compared, a share is chosen where there are several, and the merge is written in pieces."""

import json
from collections.abc import Iterator
from functools import partial

from torch import Tensor

from model.artifact.streaming import stream_weights
from model.loading import DTYPES, save_config
from model.tokenizer import copy_tokenizer
from stages.common.stage import StageContext, StageResult
from stages.merge.config import MergeConfig
from stages.merge.merging import Merge
from stages.merge.sources import Sources, read_sources

METRICS_FILE = "metrics.jsonl"


def run(config: MergeConfig, context: StageContext) -> StageResult:
    """Rows are the shares of a sweep with their figures; the metrics are those of the one that was kept."""
    sources = read_sources([item.path for item in config.model])
    weights, result = config.weights, StageResult()
    if config.alphas:
        result = _swept(config, sources, context)
        alpha = float(result.metrics["alpha"])
        weights = 1 - alpha, alpha
    merge = Merge(sources, config.method, weights, DTYPES.get(config.dtype or ""))
    _write(merge, context)
    save_config(sources.config, context.staging, merge.dtype)
    copy_tokenizer(config.model[0].path, context.staging)
    shares = {f"weight_{number}": weight for number, weight in enumerate(weights, start=1)}
    parameters = sum(info.count for info in merge.tensors.values())
    result.metrics = {"parameters": parameters, **shares, **result.metrics}
    result.weights = {"model": weights}
    return result


def _swept(config: MergeConfig, sources: Sources, context: StageContext) -> StageResult:
    """The table of a sweep, also written as metrics.jsonl. lm-eval is imported here: a plain merge needs none of it."""
    from stages.merge.sweep import best, sweep

    trials = sweep(config, sources, context)
    lines = [json.dumps(trial.row) + "\n" for trial in trials]
    (context.staging / METRICS_FILE).write_text("".join(lines), encoding="utf-8")
    chosen = best(trials)
    return StageResult(
        metrics={**chosen.row, **{f"score@{trial.alpha:g}": trial.score for trial in trials}},
        rows=[trial.row for trial in trials],
        notes=[f"kept alpha {chosen.alpha:g}, of the best score"],
    )


def _write(merge: Merge, context: StageContext) -> None:
    total = sum(info.count for info in merge.tensors.values())
    check = partial(context.check_stop, "what was evaluated is kept, what was written is not")
    with context.reporter.progress("merging", total=total, unit="parameter") as bar:

        def pieces(name: str) -> Iterator[Tensor]:
            for piece in merge.pieces(name):
                check()
                yield piece
                bar.update(piece.numel())

        stream_weights(merge.tensors, pieces, context.staging)
