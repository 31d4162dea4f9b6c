"""Tasks by name: those of the YAML files, those of files of chats, and the user's own.

Call `evals.quiet.prepare` before this module is imported.
"""

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from evals.chat_lines import SUFFIXES
from evals.chat_tasks import chat_task_names, read_chat_task
from evals.environments.workbench.state import DATA as WORKBENCH
from evals.quiet import calm
from evals.tasks import task_manager
from evals.tasks.reader import DATA
from model.errors import ArtifactError, Nano2Error, UsageError, first_line

COMMITTED_CHATS = {
    **{f"nano2_{path.name.removesuffix('.chat.jsonl')}": path for path in sorted(DATA.glob("*.chat.jsonl"))},
    "nano2_workbench": WORKBENCH / "dev.jsonl.gz",
}
"""Short names of the files of chats that come with nano2."""


def load_tasks(
    names: Sequence[str], include: Sequence[Path] = (), metadata: Mapping[str, Any] | None = None
) -> list[Task | Group]:
    """Tasks, groups and tags by name, or by the path of a YAML file or of a jsonl of chats, with their rows read.

    metadata: for tasks that make their rows (RULER: tokenizer, lengths, samples, seed). UsageError for a name that is not
    known or stands for two tasks, ArtifactError for a task file or data file that cannot be read.
    """
    chats = chat_task_names([Path(name) for name in names if _is_chats(name)])
    with calm():
        manager = task_manager(include, metadata)
        loaded: dict[str, Task | Group] = {}
        origins: dict[str, str] = {}
        for name in dict.fromkeys(names):
            for item in _named(name, manager, chats):
                title = item.name if isinstance(item, Group) else item.task_name
                if loaded.setdefault(title, item) is not item and _is_file(name):
                    raise UsageError(
                        f"two tasks have the name {title!r}: {origins[title]} and {name}",
                        where="tasks",
                        remedy="rename one, or evaluate them one after the other",
                    )
                origins.setdefault(title, name)
        try:
            manager.load(list(loaded.values()))
        except ValueError as error:
            raise UsageError(str(error), where="tasks", remedy="name each task once") from error
    return list(loaded.values())


def _named(name: str, manager: TaskManager, chats: Mapping[Path, str]) -> list[Task | Group]:
    if name in COMMITTED_CHATS:
        return [read_chat_task(COMMITTED_CHATS[name], name)]
    if _is_chats(name):
        return [read_chat_task(Path(name), chats[Path(name)])]
    if name not in manager.all_tasks and not _is_file(name):
        raise _unknown(name, manager)
    return _load(manager, name)


def _is_chats(name: str) -> bool:
    return _is_file(name) and name.endswith(SUFFIXES)


def _is_file(name: str) -> bool:
    return Path(name).is_file()


def _load(manager: TaskManager, name: str) -> list[Task | Group]:
    try:
        found = manager.load([name])
    except Nano2Error:
        raise
    except Exception as error:  # YAML, data files and the user's Python raise whatever they like
        raise ArtifactError(
            f"the task cannot be loaded ({type(error).__name__}: {first_line(error)})",
            where=name,
            remedy="correct its YAML file, and the data files that it names",
        ) from error
    groups = found.get("groups", {})
    inside = {child for group in groups.values() for child in group.child_names}
    outer: list[Task | Group] = [group for title, group in groups.items() if title not in inside]
    return outer or list(found["tasks"].values())


def _unknown(name: str, manager: TaskManager) -> UsageError:
    if os.sep in name or name.endswith((*SUFFIXES, ".yaml", ".yml")):
        return UsageError("no such file", where=name, remedy="check the path given to 'tasks'")
    known = [*manager.all_tasks, *COMMITTED_CHATS]
    close = get_close_matches(name, known, n=1, cutoff=0.6) or [each for each in known if name in each][:1]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return UsageError(
        f"unknown task {name!r}{hint}",
        where="tasks",
        remedy=f"choose of {', '.join(known)}, or name a YAML file or a jsonl of chats; "
        "--include DIR adds tasks of your own",
    )
