"""The evaluation tasks that come with nano2, as lm-eval loads them: no network, no cache, no scan of lm-eval's own tasks.

simple_evaluate(model=lm, tasks=load_tasks(["nano2_arc_easy"]), task_manager=task_manager())
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import UsageError

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

TASKS = Path(__file__).parent


def task_manager(include: Sequence[Path] = ()) -> "TaskManager":
    """An lm-eval TaskManager over the tasks here and those in the `include` directories.

    It does not know lm-eval's own tasks: finding them takes seconds, and nearly all need the network.
    """
    from lm_eval.tasks import TaskManager

    for directory in include:
        if not directory.is_dir():
            raise UsageError(
                "no such directory of tasks", where=str(directory), remedy="give a folder of YAMLs"
            )
    return TaskManager(include_path=[TASKS, *include], include_defaults=False)


def load_tasks(names: Sequence[str], include: Sequence[Path] = ()) -> "list[Task]":
    """The tasks with these names (a name of a task, group or tag, or a YAML file), with their rows read.

    Raises UsageError for a name that is not known and ArtifactError for a damaged data file.
    """
    manager = task_manager(include)
    for name in names:
        if name not in manager.all_tasks and not Path(name).is_file():
            known = ", ".join(manager.all_subtasks)
            raise UsageError("no such task", where=name, remedy=f"choose from {known}, or give a YAML file")
    with _quiet_about_custom_datasets():
        return list(manager.load(list(names))["tasks"].values())


@contextmanager
def _quiet_about_custom_datasets() -> Iterator[None]:
    """lm-eval tells on each task with a `custom_dataset` how its arguments could be set; here they are fixed."""

    def is_other(record: logging.LogRecord) -> bool:
        return "Custom kwargs can be passed" not in record.getMessage()

    logger = logging.getLogger("lm_eval.api.task")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
