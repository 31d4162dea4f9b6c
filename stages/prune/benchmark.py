"""The evaluation by which trials are compared.

`evals.quiet.prepare` has to be called before this module is imported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lm_eval.api.group import Group
from lm_eval.api.task import Task

from evals.callbacks import Callbacks
from evals.response_cache import ResponseCache
from model.loading import load
from stages.common.evaluation.measuring import measure
from stages.common.evaluation.scoring import own_figures, ranking_score
from stages.common.evaluation.settings import EvaluationSettings
from stages.common.stage import StageContext

SCORE = "score"


@dataclass(frozen=True)
class Benchmark:
    """Tasks, and how they are run."""

    settings: EvaluationSettings
    tasks: Sequence[Task | Group]
    context: StageContext
    device: torch.device

    def measure(self, model: Path) -> dict[str, float]:
        """The tasks' own figures, and as `score` the one number by which models are ranked."""
        check = partial(self.context.check_stop, "what was tried so far is kept, and the answers")
        reporter = self.context.reporter
        with ResponseCache(model.parent / "answers", reporter.warn) as cache:
            evaluation = measure(
                load(model, self.device),
                model,
                self.settings,
                self.tasks,
                identity="",
                cache=cache,
                callbacks=Callbacks(reporter.progress, reporter.warn, check),
            )
        return {**own_figures(evaluation), SCORE: ranking_score(evaluation)}
