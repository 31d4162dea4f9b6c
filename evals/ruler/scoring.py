"""RULER's score, and the table of it by length and depth."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ANY_ANSWER = frozenset({"qa_1"})
"""Tasks whose expected texts are different ways to say the same."""

MEAN = "mean"
"""The name of the rows over all tasks."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f]")


def found(output: str, answers: Sequence[str]) -> list[bool]:
    """Which answers are in the output, in any case; control characters of the output count as line ends."""
    text = _UNPRINTABLE.sub("\n", output).lower()
    return [answer.lower() in text for answer in answers]


def score(task: str, output: str, answers: Sequence[str]) -> float:
    """0 to 1: the share of the answers that are in the output; for qa_1 whether any of them is."""
    hits = found(output, answers)
    return float(any(hits)) if task in ANY_ANSWER else sum(hits) / len(hits)


def score_table(samples: Iterable[Mapping[str, Any]], buckets: int = 5) -> list[dict[str, Any]]:
    """Scores by task, length and depth, as rows: task, length, depth, score (0 to 100, as RULER states them), n.

    samples: lm-eval's, of any of the nano2_ruler tasks, each with one output or a list of them. depth None: `n` outputs, at
    all depths. depth "20-40%", for tasks with depths: the `n` expected texts whose needle stood there (40% itself counts
    above). With more than one task, rows of the task "mean" hold the mean over tasks at a length, each counting the same.
    """
    whole: dict[tuple[str, int], list[float]] = defaultdict(list)
    by_depth: dict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    order: dict[str, None] = {}
    for sample in samples:
        document, outputs = sample["doc"], sample["filtered_resps"][0]
        task, key = document["task"], (document["task"], document["length"])
        order[task] = None
        for output in [outputs] if isinstance(outputs, str) else outputs:
            value = score(task, output, document["answers"])
            whole[key].append(value)
            hits = [value] if task in ANY_ANSWER else map(float, found(output, document["answers"]))
            for depth, hit in zip(document["depths"], hits, strict=False):  # cwe and fwe have no depths
                by_depth[key][min(int(depth * buckets + 1e-9), buckets - 1)].append(hit)
    rows = []
    for task, length in sorted(whole, key=lambda key: (list(order).index(key[0]), key[1])):
        rows.append(_row(task, length, None, whole[task, length]))
        for bucket, hits in sorted(by_depth[task, length].items()):
            rows.append(
                _row(task, length, f"{100 * bucket // buckets}-{100 * (bucket + 1) // buckets}%", hits)
            )
    if len(order) > 1:
        for length in sorted({length for _, length in whole}):
            scores = [values for (_, one), values in whole.items() if one == length]
            rows.append(
                {
                    **_row(MEAN, length, None, [sum(values) / len(values) for values in scores]),
                    "n": sum(map(len, scores)),
                }
            )
    return rows


def _row(task: str, length: int, depth: str | None, scores: Sequence[float]) -> dict[str, Any]:
    return {
        "task": task,
        "length": length,
        "depth": depth,
        "score": 100 * sum(scores) / len(scores),
        "n": len(scores),
    }
