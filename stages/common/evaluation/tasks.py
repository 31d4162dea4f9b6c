"""The tasks of an evaluation, read once: the plan that precedes a run hands over what it has read."""

from pathlib import Path
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.task import Task

from evals.loading import load_tasks
from model.errors import UsageError
from stages.common.evaluation.settings import EvaluationSettings

_planned: list[tuple[EvaluationSettings, list[Task | Group]]] = []


def plan_tasks(settings: EvaluationSettings, tokenizer: Path) -> list[Task | Group]:
    """Reads the tasks, and keeps them for the run of the same settings in this process.

    tokenizer: the model's directory, for tasks that make their rows to a length in tokens.
    """
    tasks = load_tasks(settings.tasks, settings.include, _metadata(settings, tokenizer))
    _planned[:] = [(settings, tasks)]
    return tasks


def take_tasks(settings: EvaluationSettings, tokenizer: Path) -> list[Task | Group]:
    """What was planned, or else read now."""
    planned = _planned and _planned[0][0] == settings
    tasks = _planned[0][1] if planned else plan_tasks(settings, tokenizer)
    _planned.clear()
    return tasks


def single_tasks(items: list[Task | Group]) -> list[Task]:
    """The tasks, those of groups among them."""
    return [task for item in items for task in (item.get_all_tasks() if isinstance(item, Group) else [item])]


def _metadata(settings: EvaluationSettings, tokenizer: Path) -> dict[str, Any]:
    """What RULER's tasks need to make their samples; nothing if there are none."""
    wanted = {
        "lengths": settings.ruler_lengths,
        "samples": settings.ruler_samples,
        "depths": settings.ruler_depths,
    }
    given = {
        name: list(value) if isinstance(value, tuple) else value for name, value in wanted.items() if value
    }
    if not any("ruler" in name for name in settings.tasks):
        if given:
            raise UsageError(
                f"ruler_{next(iter(given))} is given, and no RULER task",
                where="tasks",
                remedy="add --tasks nano2_ruler, or leave it out",
            )
        return {}
    return {"tokenizer": str(tokenizer), "seed": settings.seed, **given}
