"""Tasks as an evaluation runs them: copies with its settings, and one copy a thinking budget.

A task that is asked for at a budget has the budget in its name, `nano2_gsm8k@64`, so that results and samples of all budgets
stand side by side in lm-eval's format.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.defaults import default_gen_kwargs

from evals.generation_settings import DEFAULT_GRACE
from evals.judging import judge_each
from model.errors import UsageError

Budget = int | None
"""Tokens of thinking; None for no budget."""


@dataclass(frozen=True)
class RunSettings:
    """What an evaluation wants of its tasks.

    generation: overrides of the tasks' `generation_kwargs`. repeats: answers to each item. chat: through the chat template.
    budgets: the thinking budgets that the tasks are run at, each with `grace` (evals/generation_settings.py); empty: once,
    as the tasks say. check: called for each item.
    """

    generation: Mapping[str, Any] = field(default_factory=dict)
    repeats: int = 1
    budgets: Sequence[Budget] = ()
    grace: int = DEFAULT_GRACE
    chat: bool = False
    check: Callable[[], None] = lambda: None


def run_copies(items: Sequence[Task | Group], settings: RunSettings) -> list[Task | Group]:
    """The tasks and groups to run. The originals stay as they are.

    Raises UsageError for repeats or budgets that a task cannot have.
    """
    if settings.budgets and not any(_generates(item) for item in items):
        raise UsageError(
            "thinking budgets were given, and none of the tasks generates an answer",
            where="budgets",
            remedy="leave them out, or add a task such as nano2_gsm8k",
        )
    if settings.repeats > 1 and not any(_generates(item) for item in items):
        raise UsageError(
            "repeats were asked for, and none of the tasks generates an answer",
            where="repeats",
            remedy="leave them out, or add a task such as nano2_gsm8k",
        )
    copies: list[Task | Group] = []
    for item in items:
        budgets = settings.budgets if _generates(item) else ()
        copies += [_copied(item, settings, budget, suffix) for budget, suffix in _suffixes(budgets)]
    return copies


def _suffixes(budgets: Sequence[Budget]) -> list[tuple[Budget, str]]:
    return [(budget, "" if budget is None else f"@{budget}") for budget in budgets] or [(None, "")]


def _generates(item: Task | Group) -> bool:
    tasks = item.get_all_tasks() if isinstance(item, Group) else [item]
    return any(task.OUTPUT_TYPE == "generate_until" for task in tasks)


def _copied(item: Task | Group, settings: RunSettings, budget: Budget, suffix: str) -> Task | Group:
    if isinstance(item, Group):
        group = Group(f"{item.name}{suffix}", None, item.aggregate_metric_list, item.metadata)
        group.alias = f"{item.alias}{suffix}" if item.alias else None
        for child in item:
            group.add(_copied(child, settings, budget, suffix))
        return group
    task = copy.copy(item)
    task._config = copy.deepcopy(item._config)
    task._config.task = f"{item.task_name}{suffix}"
    for name in ("_aggregation_list", "_higher_is_better", "sampler"):
        if hasattr(task, name):
            setattr(task, name, copy.copy(getattr(task, name)))
    if task.OUTPUT_TYPE == "generate_until":
        _configure(task, settings, budget)
    return task


def _configure(task: Task, settings: RunSettings, budget: Budget) -> None:
    config = task._config
    wanted = config.generation_kwargs
    if wanted == default_gen_kwargs(config.fewshot_delimiter):  # the task says nothing: lm-eval filled it in
        del wanted["do_sample"], wanted["temperature"]
    wanted |= settings.generation
    if "temperature" in settings.generation and "do_sample" not in settings.generation:
        wanted["do_sample"] = bool(settings.generation["temperature"])
    if budget is not None:
        wanted |= {"thinking_budget": budget, "thinking_grace": settings.grace}
    if config.repeats > 1 and settings.repeats > 1:
        raise UsageError(
            f"the task asks for {config.repeats} answers to each item by itself",
            where=f"task {task.task_name}",
            remedy="evaluate it without --repeats",
        )
    if config.repeats == 1:
        config.repeats = settings.repeats
        judge_each(task, chat=settings.chat, check=settings.check)
