"""Metrics and tables of a campaign.

score_gap_max: the largest difference between the two sides' log-likelihoods of a continuation, in nats, float32.
rolling_gap_max: of a whole text, a token's share of it. is_greedy_differences: continuations that one side alone calls the
most probable. greedy_mismatches: greedy texts that differ although none of their tokens had a rival within 1e-4.
speed_ratio_cpu: hf's seconds for all requests over ours, each side and kind of request at its best setting and in its
fastest run; speed_ratio_KIND: for one kind; ..._float32: within that precision.
"""

from collections.abc import Sequence
from typing import Any

from stages.bench.eval.campaign import Campaign
from stages.bench.eval.sweep import KINDS, REFERENCE, SIDES, Kind, Mix
from stages.common.results import TABLE, Cell

Metrics = dict[str, float | int]
Row = dict[str, Cell]


def summarize(
    campaign: Campaign, mix: Mix, text_tokens: Sequence[int], mismatches: int, threads: int
) -> tuple[Metrics, list[Row]]:
    """(metrics, rows); the tables are `speed` and `requests`. `text_tokens`: of each text of the rolling requests."""
    answers = campaign.answers
    metrics: Metrics = {
        "score_gap_max": _gap(
            [score for score, _ in answers["multiple_choice", "nano2"]],
            [score for score, _ in answers["multiple_choice", "hf"]],
        ),
        "speed_ratio_cpu": _ratio(campaign, KINDS, None),
    }
    for kind in KINDS:
        metrics[f"speed_ratio_{kind}"] = _ratio(campaign, (kind,), None)
    metrics["speed_ratio_cpu_float32"] = _ratio(campaign, KINDS, REFERENCE)
    for kind in KINDS:
        metrics[f"speed_ratio_{kind}_float32"] = _ratio(campaign, (kind,), REFERENCE)
    metrics["rolling_gap_max"] = _gap(
        [score / n for score, n in zip(answers["rolling", "nano2"], text_tokens, strict=True)],
        [score / n for score, n in zip(answers["rolling", "hf"], text_tokens, strict=True)],
    )
    metrics["is_greedy_differences"] = sum(
        mine[1] != other[1]
        for mine, other in zip(
            answers["multiple_choice", "nano2"], answers["multiple_choice", "hf"], strict=True
        )
    )
    metrics["greedy_mismatches"] = mismatches
    metrics["greedy_texts"] = len(answers["generate", "nano2"])
    for side in SIDES:
        metrics[f"{side}_seconds"] = sum(campaign.fastest(kind, campaign.best(kind, side)) for kind in KINDS)
    metrics["threads"] = threads
    return metrics, [*_speed_rows(campaign), *_request_rows(campaign, mix)]


def _gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return max(abs(mine - other) for mine, other in zip(ours, theirs, strict=True))


def _ratio(campaign: Campaign, kinds: Sequence[Kind], dtype: str | None) -> float:
    ours, theirs = (
        sum(campaign.fastest(kind, campaign.best(kind, side, dtype)) for kind in kinds) for side in SIDES
    )
    return theirs / ours


def _speed_rows(campaign: Campaign) -> list[Row]:
    rows: list[Row] = []
    for kind in KINDS:
        for (measured, setting), seconds in campaign.seconds.items():
            if measured == kind:
                rows.append(
                    {
                        TABLE: "speed",
                        "kind": kind,
                        "side": setting.side,
                        "precision": setting.dtype,
                        "batch": setting.batch,
                        "seconds": round(min(seconds), 3),
                        "slowest": round(max(seconds), 3),
                        "runs": len(seconds),
                        "best": setting == campaign.best(kind, setting.side),
                    }
                )
    return rows


def _request_rows(campaign: Campaign, mix: Mix) -> list[Row]:
    rows: list[Row] = []
    for kind, documents in mix.documents.items():
        answers: list[Any] = campaign.answers[kind, "nano2"]
        rows.append(
            {
                TABLE: "requests",
                "kind": kind,
                "tasks": ", ".join(f"{name} ({count})" for name, count in documents.items()),
                "requests": len(answers),
                "new_tokens": mix.new_tokens if kind == "generate" else None,
            }
        )
    return rows
