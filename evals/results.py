"""What an evaluation found, as tables: figures by task and metric, by thinking budget, and over repeated answers.

Everything is read from lm-eval's results and samples, so that it can be told of an artifact on disk as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from evals.answers import OUTCOMES, TOKEN_COUNTS, Outcome
from evals.ruler.scoring import score_table
from evals.statistics import clustered_mean, effective_count, pass_at_ks, wilson_interval

_RULER = "nano2_ruler_"

Results = Mapping[str, Any]
Samples = Mapping[str, Sequence[Mapping[str, Any]]]
Row = dict[str, Any]


def summary(results: Results, samples: Samples, generation: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json has under "nano2": how answers were generated, and the tables where there are any to make."""
    found: dict[str, Any] = {"generation": dict(generation)}
    if budgets := budget_rows(results, samples):
        found["budgets"] = budgets
    if repeats := repeat_rows(samples):
        found["repeats"] = repeats
    if ruler := ruler_rows(samples):
        found["ruler"] = ruler
    return found


def figures(results: Results) -> Iterator[tuple[str, str, str, float, float | None]]:
    """(task or group, metric, filter, value, standard error) of each figure."""
    for task, values in {**results["results"], **results.get("groups", {})}.items():
        for key, value in values.items():
            metric, comma, rule = key.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, int | float):
                stderr = values.get(f"{metric}_stderr,{rule}")
                yield task, metric, rule, value, stderr if isinstance(stderr, float) else None


def figure_name(task: str, metric: str, rule: str) -> str:
    """What a figure is called among an artifact's metrics: `task/metric`, or `task/metric,filter`."""
    return f"{task}/{metric}" if rule == "none" else f"{task}/{metric},{rule}"


def figure_rows(results: Results, samples: Samples) -> list[Row]:
    """One row a task (or group) and metric: task, metric, value, stderr (None where there is none), n documents with it.

    What an evaluation adds to the tasks' own metrics is left out, but for `right`.
    """
    return [
        {
            "task": task,
            "metric": metric if rule == "none" else f"{metric},{rule}",
            "value": value,
            "stderr": stderr,
            "n": _having(samples.get(task, ()), metric, rule) or documents(results, task),
        }
        for task, metric, rule, value, stderr in figures(results)
        if not is_added(metric) or metric == Outcome.RIGHT
    ]


def _having(samples: Sequence[Mapping[str, Any]], metric: str, rule: str) -> int:
    return sum(sample["filter"] == rule and metric in sample for sample in samples)


def is_added(metric: str) -> bool:
    """It is none of the task's own (evals/judging.py)."""
    return metric in (*OUTCOMES, *TOKEN_COUNTS, "well_formed") or metric.startswith("pass@")


def documents(results: Results, task: str) -> int | None:
    """Items that were evaluated, those of a group's tasks together."""
    counts: Mapping[str, int] | None = results.get("n-samples", {}).get(task)
    if counts:
        return counts["effective"]
    parts = [documents(results, part) for part in results.get("group_subtasks", {}).get(task, ())]
    return sum(part or 0 for part in parts) or None


def split_name(name: str) -> tuple[str, int | None]:
    """A task's name and thinking budget from the name of its copy."""
    base, at, budget = name.rpartition("@")
    return (base, int(budget)) if at and budget.isdecimal() else (name, None)


def by_filter(samples: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """A task's samples, one list a filter."""
    rules = dict.fromkeys(sample["filter"] for sample in samples)
    for rule in rules:
        yield rule, [sample for sample in samples if sample["filter"] == rule]


def budget_rows(results: Results, samples: Samples) -> list[Row]:
    """One row a task, filter and thinking budget, for tasks that were run at some: how accuracy and tokens go with it.

    `score` is the task's own first metric; `accuracy` counts what ended, is well-formed and has full marks.
    """
    bases = {split_name(task)[0] for task in samples if split_name(task)[1] is not None}
    rows: list[Row] = []
    for task in samples:
        base, budget = split_name(task)
        if base not in bases:
            continue
        for rule, of_rule in by_filter(samples[task]):
            values = results["results"][task]
            metric = of_rule[0]["metrics"][0]
            row: Row = {
                "task": base if rule == "none" else f"{base},{rule}",
                "budget": budget,
                "n": len(of_rule),
            }
            row |= {"metric": metric, "score": values.get(f"{metric},{rule}")}
            row |= {
                "accuracy": values.get(f"right,{rule}"),
                "stderr": _number(values.get(f"right_stderr,{rule}")),
            }
            for name in (*OUTCOMES[1:], "well_formed", *TOKEN_COUNTS):
                row[name] = values.get(f"{name},{rule}")
            rows.append(row)
    return sorted(rows, key=lambda row: (row["task"], row["budget"] is None, row["budget"] or 0))


def repeat_rows(samples: Samples) -> list[Row]:
    """One row a task and filter whose items were answered several times: the mean of its first metric, its standard error
    clustered by item and the two parts of that (evals/statistics.py), and pass@k."""
    rows: list[Row] = []
    for task, of_task in samples.items():
        for rule, of_rule in by_filter(of_task):
            scores = [[answer["score"] for answer in sample.get("generations", ())] for sample in of_rule]
            if any(len(each) < 2 or None in each for each in scores):
                continue
            found = clustered_mean(scores)
            row: Row = {
                "task": task if rule == "none" else f"{task},{rule}",
                "metric": of_rule[0]["metrics"][0],
            }
            row |= {"items": found.items, "answers": len(scores[0]), "mean": found.mean}
            row |= {
                "stderr": _number(found.stderr),
                "within": _number(found.within),
                "between": _number(found.between),
            }
            for k in pass_at_ks(len(scores[0])):
                values = [sample[f"pass@{k}"] for sample in of_rule if f"pass@{k}" in sample]
                row[f"pass@{k}"] = sum(values) / len(values) if values else None
            rows.append(row)
    return rows


def ruler_rows(samples: Samples) -> list[Row]:
    """Scores of the RULER tasks by task, length and depth (evals/ruler/scoring.py), each answer counting."""
    asked = [sample for task, of_task in samples.items() if task.startswith(_RULER) for sample in of_task]
    return score_table(
        {"doc": sample["doc"], "filtered_resps": [answer]}
        for sample in asked
        for answer in (
            sample["filtered_resps"][0]
            if isinstance(sample["filtered_resps"][0], list)
            else sample["filtered_resps"]
        )
    )


def primary_figures(results: Results, samples: Samples) -> dict[str, tuple[str, str]]:
    """Each task's first metric and filter; of a group, and of a task without samples, the first of its figures."""
    first = {task: (metric, rule) for task, metric, rule, _, _ in reversed(list(figures(results)))}
    return first | {
        task: (of_task[0]["metrics"][0], of_task[0]["filter"]) for task, of_task in samples.items() if of_task
    }


def interval(value: float, stderr: float | None, items: int | None) -> tuple[float, float] | None:
    """About 95%: Wilson's for a share (for as many independent items as its standard error is worth), else two standard
    errors; None where there is nothing to tell it from."""
    if stderr is None or not items:
        return None
    if 0 <= value <= 1 and stderr**2 <= value * (1 - value):
        return wilson_interval(value, effective_count(value, stderr, items))
    return value - 1.96 * stderr, value + 1.96 * stderr


def _number(value: Any) -> float | None:
    """JSON has no NaN, and lm-eval writes "N/A"."""
    return value if isinstance(value, float) and isfinite(value) else None
