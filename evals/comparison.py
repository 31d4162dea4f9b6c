"""Two evaluations item by item: the same question put to two models, whatever stands where in the files.

Items are paired by the content of the document (lm-eval's `doc_hash`). The difference of the two scores gets a bootstrap
interval and a permutation test over items (evals/statistics.py); both score functions are the task's own.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from evals.results import by_filter
from evals.statistics import Array, PairedItems, Score, mean_score, paired_bootstrap, permutation_test
from model.errors import UsageError

SCORES: Mapping[str, Score] = {
    "mean": mean_score,
    "nanmean": mean_score,
    "perplexity": lambda sums: np.exp(-sums[..., 0] / sums[..., 1]),
    "weighted_perplexity": lambda sums: np.exp(-sums[..., 0] / sums[..., 1]),
    "bits_per_byte": lambda sums: -sums[..., 0] / sums[..., 1] / log(2),
}
"""lm-eval's aggregations of an item's value, or of its value and weight."""

DEFAULT_SCORES = {"word_perplexity": "weighted_perplexity", "byte_perplexity": "weighted_perplexity"} | {
    name: name for name in SCORES
}
"""The aggregation of a metric for which a task names none; of all others the mean."""

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """One item of both. Values are as lm-eval has them for an item: a number, or a number and a weight."""

    item: str
    first: Sample
    second: Sample


@dataclass(frozen=True)
class TaskComparison:
    """One task and filter. difference is second less first, low to high its interval. higher_is_better: None where
    neither is. lost: items that only the first has right; gained: that only the second has; None where an item's value is
    no share of right answers.

    only_first, only_second: items that the other has not, which are in neither score. prompts_differ: of the pairs.
    """

    task: str
    metric: str
    pairs: Sequence[Pair]
    first: float
    second: float
    low: float
    high: float
    p_value: float
    higher_is_better: bool | None
    lost: Sequence[Pair] | None
    gained: Sequence[Pair] | None
    only_first: Sequence[str]
    only_second: Sequence[str]
    prompts_differ: Sequence[Pair]

    @property
    def difference(self) -> float:
        return self.second - self.first


def compare_task(
    task: str,
    first: Sequence[Sample],
    second: Sequence[Sample],
    results: Mapping[str, Any],
    *,
    metric: str | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> list[TaskComparison]:
    """One comparison a filter that both have. results: lm-eval's of either, for what a metric is.

    metric: by default the task's first. UsageError for one whose score is not known here. A task that has no item in
    common, or not the wanted metric, gives none.
    """
    others = dict(by_filter(second))
    comparisons = []
    for rule, of_rule in by_filter(first):
        pairs, only_first, only_second = _paired(of_rule, others.get(rule, ()))
        name = metric or of_rule[0]["metrics"][0]
        pairs = [pair for pair in pairs if name in pair.first and name in pair.second]
        if not pairs:
            continue
        items = _items(task, name, pairs, results)
        low = high = items.difference
        if len(pairs) > 1:
            low, high = paired_bootstrap(items, resamples=resamples, level=level, seed=seed)
        better = results.get("higher_is_better", {}).get(task, {}).get(name)
        lost, gained = _flips(name, pairs) if better and items.score is mean_score else (None, None)
        comparisons.append(
            TaskComparison(
                task=task if rule == "none" else f"{task},{rule}",
                metric=name,
                pairs=pairs,
                first=float(items.score(items.first.sum(0))),
                second=float(items.score(items.second.sum(0))),
                low=low,
                high=high,
                p_value=permutation_test(items, permutations=resamples, seed=seed),
                higher_is_better=better,
                lost=lost,
                gained=gained,
                only_first=only_first,
                only_second=only_second,
                prompts_differ=[
                    pair for pair in pairs if pair.first.get("prompt_hash") != pair.second.get("prompt_hash")
                ],
            )
        )
    return comparisons


def item_name(sample: Sample) -> str:
    """How an item is spoken of: its own id, or its place in the task."""
    document = sample.get("doc")
    own = document.get("id") if isinstance(document, Mapping) else None
    return str(sample.get("doc_id") if own is None else own)


def _paired(first: Sequence[Sample], second: Sequence[Sample]) -> tuple[list[Pair], list[str], list[str]]:
    """Pairs in the order of the first, and the names of items without a partner. Equal documents pair in their order."""
    mine, theirs = _by_content(first), _by_content(second)
    pairs = [Pair(item_name(sample), sample, theirs[key]) for key, sample in mine.items() if key in theirs]
    only_first = [item_name(sample) for key, sample in mine.items() if key not in theirs]
    return pairs, only_first, [item_name(sample) for key, sample in theirs.items() if key not in mine]


def _by_content(samples: Sequence[Sample]) -> dict[tuple[str, int], Sample]:
    seen: Counter[str] = Counter()
    found = {}
    for sample in samples:
        found[sample["doc_hash"], seen[sample["doc_hash"]]] = sample
        seen[sample["doc_hash"]] += 1
    return found


def _items(task: str, metric: str, pairs: Sequence[Pair], results: Mapping[str, Any]) -> PairedItems:
    rule = _aggregation(task, metric, results)
    if rule not in SCORES:
        raise UsageError(
            f"{task} scores {metric} by {rule!r}, which is no sum over items",
            where="metric",
            remedy=f"name another with --metric; items can be compared by {', '.join(SCORES)}",
        )
    return PairedItems(
        _sums(task, metric, [pair.first for pair in pairs]),
        _sums(task, metric, [pair.second for pair in pairs]),
        SCORES[rule],
    )


def _aggregation(task: str, metric: str, results: Mapping[str, Any]) -> str:
    listed = results["configs"].get(task, {}).get("metric_list") or ()
    named = {each["metric"]: each.get("aggregation") for each in listed if isinstance(each, Mapping)}
    return str(named.get(metric) or DEFAULT_SCORES.get(metric, "mean"))


def _sums(task: str, metric: str, samples: Sequence[Sample]) -> Array:
    values = [sample[metric] for sample in samples]
    try:
        rows = [value if isinstance(value, list | tuple) else (value, 1.0) for value in values]
        sums = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):
        sums = np.empty(0)
    if sums.shape != (len(values), 2) or not np.isfinite(sums).all():
        raise UsageError(
            f"the items of {task} have no number for {metric}",
            where="metric",
            remedy="name another with --metric",
        )
    return sums


def _flips(metric: str, pairs: Sequence[Pair]) -> tuple[list[Pair] | None, list[Pair] | None]:
    """Items that are right (at least half of the marks, or of the answers) in one of the two alone."""
    if not all(0 <= each[metric] <= 1 for pair in pairs for each in (pair.first, pair.second)):
        return None, None
    right: Callable[[Sample], bool] = lambda sample: sample[metric] >= 0.5  # noqa: E731
    lost = [pair for pair in pairs if right(pair.first) and not right(pair.second)]
    return lost, [pair for pair in pairs if right(pair.second) and not right(pair.first)]
