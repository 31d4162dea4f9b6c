"""Metrics and the table of a measured grid.

A row is a point of the grid, over its requests that were answered whole.
output_tok_per_s, total_tok_per_s: tokens of the answers, and of prompts and answers, over the seconds from the first request
to the end of the last answer. ttft: from sending a request to the first event with text. itl_mean: from there to the last
event, over the tokens behind the first one. itl_p50, itl_p95: of the times between two events with text; a token without
text of its own, such as part of a character, comes with the next. latency: from sending a request to its last event. errors:
requests without a whole answer. short: answers of fewer than osl tokens, of a server that does not know `ignore_eos`.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stages.bench.serve.load import Measured
from stages.common.results import TABLE, Cell

Metrics = dict[str, float | int]
Row = dict[str, Cell]
NAMED = ("output_tok_per_s", "total_tok_per_s", "ttft_p50_ms", "itl_mean_ms", "itl_p95_ms")
"""Figures of a row that are metrics, too, with isl, osl and clients in their names: ttft_p50_ms_64_32_c4."""


def summarize(grid: Sequence[Measured]) -> tuple[Metrics, list[Row]]:
    """(metrics, rows); the table is `load`. At each point one request at least was answered."""
    rows = [_row(measured) for measured in grid]
    metrics: Metrics = {
        "output_tok_per_s_best": max(_number(row["output_tok_per_s"]) for row in rows),
        "requests": sum(len(measured.answers) for measured in grid),
        "errors": sum(int(_number(row["errors"])) for row in rows),
        "short": sum(int(_number(row["short"])) for row in rows),
    }
    for row in rows:
        for name in NAMED:
            if row[name] is not None:
                metrics[f"{name}_{row['isl']}_{row['osl']}_c{row['concurrency']}"] = _number(row[name])
    return metrics, rows


def _row(measured: Measured) -> Row:
    point = measured.point
    whole = [answer for answer in measured.answers if not answer.error]
    output = sum(answer.output_tokens for answer in whole)
    total = output + sum(answer.prompt_tokens for answer in whole)
    later = sum(answer.output_tokens - 1 for answer in whole)
    reading = sum(answer.seconds - answer.first_token_seconds for answer in whole)
    gaps = [second - first for answer in whole for first, second in pairwise(answer.arrivals)]
    return {
        TABLE: "load",
        "isl": point.isl,
        "osl": point.osl,
        "concurrency": point.concurrency,
        "requests": len(measured.answers),
        "errors": len(measured.answers) - len(whole),
        "short": sum(answer.output_tokens < point.osl for answer in whole),
        "seconds": round(measured.seconds, 3),
        "output_tok_per_s": round(output / measured.seconds, 2),
        "total_tok_per_s": round(total / measured.seconds, 2),
        "request_per_s": round(len(whole) / measured.seconds, 3),
        **_spread("ttft", [answer.first_token_seconds for answer in whole]),
        "itl_mean_ms": round(1e3 * reading / later, 3) if later else None,
        "itl_p50_ms": _percentile(gaps, 50),
        "itl_p95_ms": _percentile(gaps, 95),
        **_spread("latency", [answer.seconds for answer in whole]),
    }


def _spread(name: str, seconds: Sequence[float]) -> Row:
    return {
        f"{name}_mean_ms": round(1e3 * float(np.mean(seconds)), 3),
        f"{name}_p50_ms": _percentile(seconds, 50),
        f"{name}_p95_ms": _percentile(seconds, 95),
    }


def _percentile(seconds: Sequence[float], percent: int) -> float | None:
    return round(1e3 * float(np.percentile(seconds, percent)), 3) if seconds else None


def _number(cell: Cell) -> float:
    assert isinstance(cell, int | float)
    return cell
