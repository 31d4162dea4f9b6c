"""Has the graders score the answers of lm-eval's tasks: `process_results: !function scoring.graded` in a YAML here.

A row's `grader` is the grader's specification. Keys that are null in it are left out: the table that lm-eval makes of the
rows has every key in each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from evals.answers import grade_answer
from evals.graders.grade import Grade


def graded(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """`acc`, the grader's score, and its parts less the one that says the same."""
    verdict = _verdict(doc, results[0])
    return {"acc": verdict.score, **{name: part for name, part in verdict.parts.items() if name != "correct"}}


def instructions(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float | list[float]]:
    """IFEval's four figures: whether all instructions of the prompt are followed, and a list with an entry for each."""
    parts = _verdict(doc, results[0]).parts
    count = len(doc["grader"]["instruction_id_list"])
    metrics: dict[str, float | list[float]] = {"prompt_strict": parts["prompt_strict"]}
    metrics["instruction_strict"] = _each(parts["instruction_strict"], count)
    metrics["prompt_loose"] = parts["prompt_loose"]
    metrics["instruction_loose"] = _each(parts["instruction_loose"], count)
    return metrics


def mean_of_all(lists: Sequence[Sequence[float]]) -> float:
    """The mean over the entries of all lists."""
    entries = [entry for entries in lists for entry in entries]
    return sum(entries) / len(entries)


def _verdict(doc: Mapping[str, Any], answer: str) -> Grade:
    spec = {key: value for key, value in doc["grader"].items() if value is not None}
    return grade_answer(spec, answer)


def _each(share: float, count: int) -> list[float]:
    followed = round(share * count)
    return [1.0] * followed + [0.0] * (count - followed)
