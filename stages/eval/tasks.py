"""The tasks of an evaluation, read once: the plan that precedes a run hands over what it has read."""

from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.task import Task

from evals.loading import load_tasks
from model.errors import UsageError
from stages.eval.config import EvalConfig

_planned: list[tuple[EvalConfig, list[Task | Group]]] = []


def plan_tasks(config: EvalConfig) -> list[Task | Group]:
    """Reads the tasks, and keeps them for the run of the same settings in this process."""
    tasks = load_tasks(config.tasks, config.include, _metadata(config))
    _planned[:] = [(config, tasks)]
    return tasks


def take_tasks(config: EvalConfig) -> list[Task | Group]:
    """What was planned, or else read now."""
    tasks = _planned[0][1] if _planned and _planned[0][0] == config else plan_tasks(config)
    _planned.clear()
    return tasks


def _metadata(config: EvalConfig) -> dict[str, Any]:
    """What RULER's tasks need to make their samples; nothing if there are none."""
    wanted = {"lengths": config.ruler_lengths, "samples": config.ruler_samples, "depths": config.ruler_depths}
    given = {
        name: list(value) if isinstance(value, tuple) else value for name, value in wanted.items() if value
    }
    if not any("ruler" in name for name in config.tasks):
        if given:
            raise UsageError(
                f"ruler_{next(iter(given))} is given, and no RULER task",
                where="tasks",
                remedy="add --tasks nano2_ruler, or leave it out",
            )
        return {}
    return {"tokenizer": str(config.model), "seed": config.seed, **given}
