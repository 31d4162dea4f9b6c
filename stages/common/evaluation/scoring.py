"""One number for an evaluation, by which models are ranked: the mean of its deciding figures.

Call `evals.quiet.prepare` before this module is imported.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.task import Task

from evals.evaluation import Evaluation
from evals.results import figure_name, figures, is_added, primary_figures
from model.errors import UsageError


def check_ranking(tasks: Sequence[Task], best_by: Sequence[str]) -> None:
    """Refuses, before anything is run, to take the mean of figures of which some are better high and some low."""
    if best_by:
        return
    directions = {task.task_name: next(iter(task.higher_is_better().items()), ("", True)) for task in tasks}
    low = [f"{name}/{metric}" for name, (metric, high) in directions.items() if high is False]
    if low and len(low) < len(directions):
        raise UsageError(
            f"{low[0]} is the better the lower it is, and other tasks have figures that are better high",
            where="tasks",
            remedy="name the figures that decide with --best-by TASK/METRIC",
        )


def ranking_score(evaluation: Evaluation, best_by: Sequence[str] = ()) -> float:
    """The mean of the figures named (`task/metric`), by default of each task's first, a group counting as one task.

    What is better low counts negative, so that more is always better. UsageError for a figure that is not there.
    """
    results = evaluation.results
    there = {
        figure_name(task, metric, rule): -value if _is_better_low(results, task, metric) else value
        for task, metric, rule, value, _ in figures(results)
    }
    if best_by:
        if missing := [name for name in best_by if name not in there]:
            raise UsageError(
                f"the evaluation has no figure {missing[0]!r}",
                where="best_by",
                remedy=f"choose of {', '.join(own_figures(evaluation))}",
            )
        names = list(best_by)
    else:
        inside = {part for parts in results.get("group_subtasks", {}).values() for part in parts}
        names = [
            figure_name(task, metric, rule)
            for task, (metric, rule) in primary_figures(results, evaluation.samples).items()
            if task not in inside
        ]
    return sum(there[name] for name in names) / len(names)


def own_figures(evaluation: Evaluation) -> dict[str, float]:
    """The figures of the tasks' own metrics, by name."""
    return {
        figure_name(task, metric, rule): value
        for task, metric, rule, value, _ in figures(evaluation.results)
        if not is_added(metric)
    }


def _is_better_low(results: dict[str, Any], task: str, metric: str) -> bool:
    return results.get("higher_is_better", {}).get(task, {}).get(metric) is False
