"""lm-eval in this process: tasks and a model in, lm-eval's own results out, and nothing printed.

Call `evals.quiet.prepare` before this module is imported: lm-eval's libraries read the environment when they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from lm_eval import evaluator, simple_evaluate
from lm_eval.api.group import Group
from lm_eval.api.task import Task

from evals.answers import Answer
from evals.judging import Judged
from evals.lm import HybridEvalLM
from evals.quiet import calm
from evals.results import summary
from evals.task_copies import RunSettings, run_copies
from evals.tasks import task_manager
from model.errors import ArtifactError, UsageError, first_line

BOOTSTRAP_ITERATIONS = 1000
"""Resamples for the standard error of the metrics that have no formula for it (perplexity). lm-eval's default, 100,000,
takes minutes where the evaluation takes seconds, for a third digit of an error."""

_VOLATILE = ("date", "git_hash")
"""What differs from run to run although nothing was measured differently; nano2.json has the like."""


@dataclass(frozen=True)
class Evaluation:
    """results: lm-eval's dictionary, less what differs from run to run, and under "nano2" what evals/results.py adds.
    samples: a list for each task, a dictionary a document and filter; "generations" has one entry an answer."""

    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]


def evaluate(
    lm: HybridEvalLM,
    tasks: Sequence[Task | Group],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    settings: RunSettings = RunSettings(),
    seed: int = 0,
) -> Evaluation:
    """Run tasks on a model. The same arguments give the same results, and the tasks stay as they are.

    limit: only the first documents of each task. num_fewshot: worked examples before each question, drawn with `seed`.
    """
    copies = run_copies(tasks, settings)
    for task in _single(copies):
        _check_examples(task, num_fewshot)
    try:
        with calm(), _without_surroundings():
            results = simple_evaluate(
                model=lm,
                tasks=copies,
                task_manager=task_manager(),
                limit=limit,
                num_fewshot=num_fewshot,
                apply_chat_template=settings.chat,
                fewshot_as_multiturn=settings.chat,
                gen_kwargs=dict(settings.generation) or None,
                bootstrap_iters=BOOTSTRAP_ITERATIONS,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
    except jinja2.TemplateError as error:
        raise ArtifactError(
            f"a template of the task does not fit its rows ({first_line(error)})",
            where=_names(tasks),
            remedy="compare doc_to_text, doc_to_choice and doc_to_target of its YAML with the data",
        ) from error
    except OverflowError as error:
        raise ArtifactError(
            "a perplexity is too large for a number: the model's probabilities are next to nothing",
            where=_names(tasks),
            remedy="check the model's training, or leave the perplexity tasks out",
        ) from error
    assert results is not None  # it is on rank 0 of a distributed run, and this is one process
    for config in results["configs"].values():
        _forget_places(config.get("metadata"))
    samples = {
        name: [_with_generations(sample) for sample in of_task]
        for name, of_task in results["samples"].items()
    }
    kept = {key: value for key, value in results.items() if key not in (*_VOLATILE, "samples")}
    return Evaluation({**kept, "nano2": summary(kept, samples, lm.generation_settings)}, samples)


def _single(items: Sequence[Task | Group]) -> list[Task]:
    return [task for item in items for task in (item.get_all_tasks() if isinstance(item, Group) else [item])]


def _check_examples(task: Task, num_fewshot: int | None) -> None:
    """Refuses more worked examples than the task has; an item is never its own example."""
    own: int | None = task.config.num_fewshot
    wanted = (own or 0) if num_fewshot is None or own == 0 else num_fewshot
    if not wanted:
        return
    sampler = getattr(task, "sampler", None)
    shared = task.fewshot_cfg.split == task.config.test_split
    there = max(0, len(sampler.fewshot_docs()) - shared) if sampler is not None else 0
    if wanted > there:
        raise UsageError(
            f"{wanted} worked examples are asked for, and there are {there}",
            where=f"task {task.task_name}",
            remedy=f"ask for at most {there} with --num-fewshot",
        )


def _names(tasks: Sequence[Task | Group]) -> str:
    return ", ".join(task.task_name if isinstance(task, Task) else task.name for task in tasks)


def _forget_places(metadata: Any) -> None:
    """Equal measurements are equal files, wherever program and model lie."""
    if isinstance(metadata, dict):
        metadata.pop("tokenizer", None)
        if "config_source" in metadata:
            metadata["config_source"] = Path(metadata["config_source"]).name


def _with_generations(sample: dict[str, Any]) -> dict[str, Any]:
    """How the answers came about, beside them; and the filtered answer as lm-eval writes it, where there is one alone."""
    (judged, *others) = sample["filtered_resps"]
    if others or not isinstance(judged, Judged):
        return sample
    generations = [
        {**answer.record(), "score": score}
        for answer, score in zip(judged.answers, judged.scores, strict=True)
        if isinstance(answer, Answer)
    ]
    filtered = list(judged) if len(judged) > 1 else judged[0]
    return {**sample, "filtered_resps": [filtered], "generations": generations}


@contextmanager
def _without_surroundings() -> Iterator[None]:
    """lm-eval describes the machine and asks git for the commit, which takes seconds; nano2.json has the like."""

    def add_versions(results: dict[str, Any]) -> None:
        results |= {f"{name}_version": version(name) for name in ("lm_eval", "transformers")}

    described, committed = evaluator.add_env_info, evaluator.get_git_commit_hash
    evaluator.add_env_info, evaluator.get_git_commit_hash = add_versions, lambda: None
    try:
        yield
    finally:
        evaluator.add_env_info, evaluator.get_git_commit_hash = described, committed
