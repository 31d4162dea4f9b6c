"""lm-eval in this process: tasks by name, a model in, lm-eval's own results out, and nothing printed.

Call `evals.quiet.prepare` before this module is imported: lm-eval's libraries read the environment when they are.
"""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import jinja2
from lm_eval import simple_evaluate
from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from evals.lm import HybridEvalLM
from evals.tasks import task_manager
from model.errors import ArtifactError, Nano2Error, UsageError

BOOTSTRAP_ITERATIONS = 1000
"""Resamples for the standard error of the metrics that have no formula for it (perplexity). lm-eval's default, 100,000,
takes minutes where the evaluation takes seconds, for a third digit of an error."""

_VOLATILE = ("date", "git_hash", "upper_git_hash", "pretty_env_info")
"""What differs from run to run although nothing was measured differently; nano2.json has the like."""


@dataclass(frozen=True)
class Evaluation:
    """results: lm-eval's dictionary, less what differs from run to run. samples: a list for each task, a dictionary a
    document and filter."""

    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]

    def rows(self) -> list[dict[str, Any]]:
        """One row a task (or group) and metric: task, metric, value, stderr (None where there is none), n documents."""
        figures = {**self.results["results"], **self.results.get("groups", {})}
        return [
            {
                "task": task,
                "metric": metric if rule == "none" else f"{metric},{rule}",
                "value": value,
                "stderr": stderr
                if isinstance(stderr := values.get(f"{metric}_stderr,{rule}"), float)
                else None,
                "n": self._documents(task),
            }
            for task, values in figures.items()
            for metric, rule, value in _metrics(values)
        ]

    def _documents(self, task: str) -> int | None:
        counts: Mapping[str, int] | None = self.results.get("n-samples", {}).get(task)
        if counts:
            return counts["effective"]
        parts = [self._documents(part) for part in self.results.get("group_subtasks", {}).get(task, ())]
        return sum(part or 0 for part in parts) or None


def _metrics(values: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    for key, value in values.items():
        metric, comma, rule = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float):
            yield metric, rule, value


def load_tasks(names: Sequence[str], include: Sequence[Path] = ()) -> list[Task | Group]:
    """Tasks, groups and tags by name, or by the path of a YAML file, with their rows read.

    UsageError for a name that is not known, ArtifactError for a task file or data file that cannot be read.
    """
    with _calm():
        manager = task_manager(include)
        loaded: dict[str, Task | Group] = {}
        for name in dict.fromkeys(names):
            if name not in manager.all_tasks and not Path(name).is_file():
                raise _unknown(name, manager)
            for item in _load(manager, name):
                loaded[item.name if isinstance(item, Group) else item.task_name] = item
    return list(loaded.values())


def _load(manager: TaskManager, name: str) -> list[Task | Group]:
    try:
        found = manager.load([name])
    except Nano2Error:
        raise
    except Exception as error:  # YAML, data files and the user's Python raise whatever they like
        raise ArtifactError(
            f"the task cannot be loaded ({type(error).__name__}: {_first_line(error)})",
            where=name,
            remedy="correct its YAML file, and the data files that it names",
        ) from error
    groups = found.get("groups", {})
    inside = {child for group in groups.values() for child in group.child_names}
    outer: list[Task | Group] = [group for title, group in groups.items() if title not in inside]
    return outer or list(found["tasks"].values())


def _unknown(name: str, manager: TaskManager) -> UsageError:
    close = get_close_matches(name, manager.all_tasks, n=1, cutoff=0.6)
    if not close:
        close = [known for known in manager.all_tasks if name in known][:1]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return UsageError(
        f"unknown task {name!r}{hint}",
        where="tasks",
        remedy=f"choose of {', '.join(manager.all_tasks)}, or name a YAML file; --include DIR adds tasks of your own",
    )


def evaluate(
    lm: HybridEvalLM,
    tasks: Sequence[Task | Group],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    chat: bool = False,
    generation: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Run tasks on a model. The same arguments give the same results.

    limit: only the first documents of each task. num_fewshot: worked examples before each question, drawn with `seed`.
    chat: put questions through the chat template. generation: overrides of the tasks' `generation_kwargs`.
    """
    try:
        with _calm():
            results = simple_evaluate(
                model=lm,
                tasks=list(tasks),
                task_manager=task_manager(),
                limit=limit,
                num_fewshot=num_fewshot,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
                gen_kwargs=dict(generation) if generation else None,
                bootstrap_iters=BOOTSTRAP_ITERATIONS,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
    except jinja2.TemplateError as error:
        raise ArtifactError(
            f"a template of the task does not fit its rows ({_first_line(error)})",
            where=", ".join(task.task_name if isinstance(task, Task) else task.name for task in tasks),
            remedy="compare doc_to_text, doc_to_choice and doc_to_target of its YAML with the data",
        ) from error
    assert results is not None  # it is on rank 0 of a distributed run, and this is one process
    return Evaluation(
        {key: value for key, value in results.items() if key not in (*_VOLATILE, "samples")},
        results["samples"],
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no message"])[0]


@contextmanager
def _calm() -> Iterator[None]:
    """lm-eval prints, and warns of what nobody can change; errors stay."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
