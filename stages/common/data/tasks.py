"""Chat jsonl as questions that a model is asked while it is trained (grpo, dpo)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evals.chat_lines import read_chat
from evals.episodes.task import Task
from evals.episodes.tokens import prompt_ids
from model.errors import ArtifactError
from stages.common.data.chat.steps import Places


def read_tasks(
    files: Sequence[Path],
    tokenizer: Any,
    *,
    longest: int,
    graded: bool = True,
    check: Callable[[], None] = lambda: None,
) -> tuple[list[Task], Places]:
    """The questions of the files, and the places of those whose prompts have `longest` tokens or more and are left out.

    Raises:
        ArtifactError: a line that is no question, or one without a grader where answers are to be `graded`.
    """
    tasks: list[Task] = []
    too_long = Places()
    for sample in (sample for file in files for sample in read_chat(file)):
        check()
        task = Task.of(sample)
        if graded and task.grader is None:
            raise ArtifactError(
                "has no grader, so no answer to it can be judged",
                where=task.place,
                remedy="give it one (docs/graders.md), or remove the line",
            )
        if len(prompt_ids(tokenizer, task)) < longest:
            tasks.append(task)
        else:
            too_long.add(task.place)
    return tasks, too_long
