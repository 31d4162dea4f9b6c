"""Every answer of an item judged by itself, in a task that lm-eval runs.

lm-eval gives all answers of an item to a task's filters at once, and the usual one keeps the first. `judge_each` makes a
task filter and score each answer alone; the item's metrics are the means over its answers, so that lm-eval's own standard
error, over items, is the one clustered by item. Two kinds of metrics are added:

- of a chat: the share of each outcome (evals/answers.py), of well-formed answers, and the tokens of thinking and answer
- of repeated answers: `pass@k`
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task

from evals.answers import OUTCOMES, TOKEN_COUNTS, Answer, Generated, Outcome
from evals.statistics import pass_at_k, pass_at_ks
from model.errors import UsageError

Metrics = dict[str, Any]


class Judged(list[Any]):
    """What a filter made of each answer of an item; the answers, and their values of the primary metric (None where that
    is no number) once they are judged."""

    answers: Sequence[Any]
    scores: Sequence[float | None]


def judge_each(task: Task, *, chat: bool, check: Callable[[], None] = lambda: None) -> None:
    """Change a generate_until task so. chat: its requests are rendered chats. check: called for each item.

    Not for a task that asks for several answers itself (its `repeats`): its filters want them all.
    """
    task._filters = [_FilterOfEach(ensemble) for ensemble in task._filters]
    process = task.process_results

    def process_results(doc: Any, results: Sequence[Judged]) -> Metrics:
        check()
        (judged,) = results
        metrics = [process(doc, [filtered]) for filtered in judged]
        whole = _mean_of(metrics, task)
        judged.scores = [_number(each[primary_metric(each)]) for each in metrics]
        right = [_is_right(each, task) for each in metrics]
        if chat and all(isinstance(answer, Answer) for answer in judged.answers):
            generated = [answer.generated for answer in judged.answers]
            whole |= _format_metrics(generated, right)
            right = [
                one.outcome(bool(is_right)) is Outcome.RIGHT
                for one, is_right in zip(generated, right, strict=True)
            ]
        if len(judged) > 1 and None not in right:
            count = sum(map(bool, right))
            whole |= {f"pass@{k}": pass_at_k(len(judged), count, k) for k in pass_at_ks(len(judged))}
        _declare(task, whole)
        return whole

    task.process_results = process_results


class _FilterOfEach:
    """One of lm-eval's filter pipelines, applied to the answers one by one."""

    def __init__(self, ensemble: Any) -> None:
        self.name: str = ensemble.name
        self._ensemble = ensemble

    def apply(self, instances: Sequence[Instance]) -> None:
        single = [
            Instance(each.request_type, each.doc, each.arguments, each.idx, each.metadata, resps=[answer])
            for each in instances
            for answer in each.resps
        ]
        self._ensemble.apply(single)
        filtered = iter(single)
        for each in instances:
            judged = Judged(next(filtered).filtered_resps[self.name] for _ in each.resps)
            judged.answers = each.resps
            each.filtered_resps[self.name] = judged


def primary_metric(metrics: Mapping[str, Any]) -> str:
    """The metric that says whether an answer is right: the first."""
    return next(iter(metrics))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, bool | int | float) else None


def _is_right(metrics: Metrics, task: Task) -> bool | None:
    """Full marks in the primary metric; None if that is not a score from 0 to 1."""
    name = primary_metric(metrics)
    value = _number(metrics[name])
    if value is None or not 0 <= value <= 1:
        return None
    return bool(value == 1) if _higher_is_better(task).get(name, True) else None


def _format_metrics(generated: Sequence[Generated], right: Sequence[bool | None]) -> Metrics:
    metrics: Metrics = {}
    if None not in right:
        outcomes = [one.outcome(bool(is_right)) for one, is_right in zip(generated, right, strict=True)]
        metrics = {name: fmean(outcome == name for outcome in outcomes) for name in OUTCOMES}
    else:
        outcomes = [one.outcome(False) for one in generated]
        metrics = {
            name: fmean(outcome == name for outcome in outcomes) for name in ("malformed", "unfinished")
        }
    metrics["well_formed"] = fmean(one.well_formed for one in generated)
    metrics["thinking_tokens"] = fmean(one.thinking_tokens for one in generated)
    metrics["answer_tokens"] = fmean(one.answer_tokens for one in generated)
    return metrics


def _mean_of(metrics: Sequence[Metrics], task: Task) -> Metrics:
    """An item's metrics from those of its answers: numbers are averaged, lists of them (which tasks flatten) joined."""
    if len(metrics) == 1:
        return dict(metrics[0])
    whole: Metrics = {}
    for name in metrics[0]:
        values = [each[name] for each in metrics if name in each]
        if all(isinstance(value, bool | int | float) for value in values):
            whole[name] = fmean(values)
        elif all(isinstance(value, list) and None not in map(_number, value) for value in values):
            whole[name] = [item for value in values for item in value]
        else:
            raise UsageError(
                f"its metric {name!r} is not a number for each answer, so repeated answers have no mean",
                where=f"task {task.task_name}",
                remedy="evaluate it without --repeats",
            )
    return whole


def _declare(task: Task, metrics: Metrics) -> None:
    """Tell lm-eval what it cannot know of the metrics that were added: a mean, and which way is better."""
    aggregation, higher = task.aggregation(), _higher_is_better(task)
    for name in metrics:
        if name in (*OUTCOMES, *TOKEN_COUNTS, "well_formed") or name.startswith("pass@"):
            aggregation.setdefault(name, mean)
            if name not in TOKEN_COUNTS:
                higher.setdefault(name, name not in ("wrong", "malformed", "unfinished"))


def _higher_is_better(task: Task) -> dict[str, bool]:
    better: dict[str, bool] = task.higher_is_better()
    return better
