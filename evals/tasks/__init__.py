"""The evaluation tasks that come with nano2, as lm-eval finds them: without its own tasks, a network or a cache.

simple_evaluate(model=lm, tasks=["nano2_arc_easy"], task_manager=task_manager())
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UsageError

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

TASKS = Path(__file__).parent


def task_manager(include: Sequence[Path] = (), metadata: Mapping[str, Any] | None = None) -> "TaskManager":
    """An lm-eval TaskManager over the tasks here and those in the `include` directories.

    metadata reaches each task's `custom_dataset` function.

    It does not know lm-eval's own tasks: finding them takes seconds, and nearly all need the network.
    """
    from lm_eval.tasks import TaskManager

    for directory in include:
        if not directory.is_dir():
            raise UsageError(
                "no such directory of tasks", where=str(directory), remedy="give a folder of YAMLs"
            )
    return TaskManager(include_path=[TASKS, *include], include_defaults=False, metadata=dict(metadata or {}))
