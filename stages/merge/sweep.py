"""Which share of the second model is best: each is merged in memory and evaluated, nothing is written but the figures.

`evals.quiet.prepare` has to be called before this module is imported.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from evals.callbacks import Callbacks
from evals.response_cache import ResponseCache, content_key
from model.artifact.staging import write_text_atomic
from model.hybrid import HybridLM
from model.loading import DTYPES, assembled
from stages.common.evaluation.measuring import measure
from stages.common.evaluation.scoring import own_figures, ranking_score
from stages.common.evaluation.tasks import take_tasks
from stages.common.stage import StageContext
from stages.common.training.hardware import resolve_device
from stages.merge.config import MergeConfig
from stages.merge.merging import Merge
from stages.merge.sources import Sources

TRIALS_FILE = "sweep.jsonl"


@dataclass(frozen=True)
class Trial:
    """An evaluated share. score: what the trials are ranked by; figures: by task/metric."""

    alpha: float
    score: float
    figures: dict[str, float]

    @property
    def row(self) -> dict[str, float]:
        return {"alpha": self.alpha, "score": self.score, **self.figures}


def sweep(config: MergeConfig, sources: Sources, context: StageContext) -> list[Trial]:
    """One trial a share, in the order given. Those that an interrupted run has done are not done again."""
    tasks = take_tasks(config, config.model[0].path)
    device = resolve_device(config.device)
    context.device = str(device)
    path = context.run_dir / TRIALS_FILE
    trials = _read_trials(path)
    check = partial(context.check_stop, "what was evaluated so far is kept")
    callbacks = Callbacks(context.reporter.progress, context.reporter.warn, check)
    with ResponseCache(context.run_dir / "answers", context.reporter.warn) as cache:
        for alpha in config.alphas[len(trials) :]:
            merge = Merge(sources, config.method, (1 - alpha, alpha), DTYPES.get(config.dtype or ""))
            evaluation = measure(
                _merged(merge, sources, str(device), callbacks),
                config.model[0].path,
                config,
                tasks,
                identity=_identity(config, context, alpha),
                cache=cache,
                callbacks=callbacks,
            )
            score = ranking_score(evaluation, config.best_by)
            trials.append(Trial(alpha, score, own_figures(evaluation)))
            write_text_atomic(path, "".join(json.dumps(asdict(trial)) + "\n" for trial in trials))
            context.reporter.log(f"alpha {alpha:g}: score {score:.4g}")
    return trials


def best(trials: Sequence[Trial]) -> Trial:
    """Of the highest score; of several the one nearest to an even merge, and of two the first model's."""
    return min(trials, key=lambda trial: (-_rank(trial.score), abs(trial.alpha - 0.5), trial.alpha))


def _rank(score: float) -> float:
    return score if math.isfinite(score) else -math.inf


def _merged(merge: Merge, sources: Sources, device: str, callbacks: Callbacks) -> HybridLM:
    """The model that would be written, as it would be loaded."""
    tensors = {}
    with callbacks.progress("merging", len(merge.tensors), "tensor") as bar:
        for name in merge.tensors:
            callbacks.check()
            tensors[name] = merge.whole(name).to(device, merge.dtype)
            bar.update(1)
    return assembled(sources.config, tensors)


def _identity(config: MergeConfig, context: StageContext, alpha: float) -> str:
    """What the merged model is, for the answers that are kept of it."""
    hashes = [item.content_hash for item in context.inputs if item.field == "model"]
    return content_key(
        {"models": hashes, "method": config.method, "alpha": alpha, "dtype": config.dtype or ""}
    )


def _read_trials(path: Path) -> list[Trial]:
    if not path.is_file():
        return []
    return [Trial(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
