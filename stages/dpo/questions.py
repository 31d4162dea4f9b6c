"""The questions of on-policy rounds: chat jsonl with graders."""

from evals.episodes.task import Task
from model.errors import ArtifactError
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.sources import resolve_sources
from stages.common.data.tasks import read_tasks
from stages.common.reporter import Reporter
from stages.dpo.config import DpoConfig


def read_questions(config: DpoConfig, tokenizer: ChatTokenizer, reporter: Reporter) -> list[Task]:
    """All questions of the files whose prompt leaves room for an answer in half a row; the others are said.

    Raises:
        ArtifactError: a broken line, one without a grader, or no question that is left.
    """
    sources = resolve_sources((path, 1.0) for path in config.prompts)
    files = [file for source in sources for file in source.files]
    tasks, too_long = read_tasks(files, tokenizer.chat, longest=config.seq_len // 2)
    if too_long.count:
        reporter.warn(
            f"{too_long.count} questions leave no room for an answer in half a row of {config.seq_len} tokens and were "
            f"left out: {too_long}"
        )
    if not tasks:
        raise ArtifactError(
            "has no questions that fit" if too_long.count else "has no questions",
            where=", ".join(map(str, config.prompts)),
            remedy="give a larger --seq-len" if too_long.count else "give chat jsonl with graders",
        )
    return tasks
