"""`nano2 bench serve`: concurrent clients against a server of text completions."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import httpx2

from model.artifact.staging import write_text_atomic
from model.errors import Nano2Error
from stages.bench.publishing import check_writable
from stages.bench.serve.config import ServeBenchConfig
from stages.bench.serve.load import Measured, Point, run_point
from stages.bench.serve.plot import load_plot
from stages.bench.serve.server import api_key, served_model, started_server
from stages.bench.serve.summary import summarize
from stages.common.quotes import markdown_table
from stages.common.results import TABLE, write_result
from stages.common.stage import StageContext, StageResult
from stages.common.training.hardware import resolve_device

SHOWN = (
    "isl",
    "osl",
    "concurrency",
    "output_tok_per_s",
    "ttft_p50_ms",
    "itl_mean_ms",
    "latency_p95_ms",
    "errors",
)
"""Columns for the terminal; the files have all."""


def run(config: ServeBenchConfig, context: StageContext) -> StageResult:
    """Writes serve.json (a result file), table.md and plot.svg. Nano2Error if nothing was answered at some point."""
    if config.result is not None:
        check_writable(config.result)
    if config.model is not None:
        context.device = resolve_device(config.device).type
    key = api_key(config.api_key_env)
    with _server(config, key) as url:
        grid = asyncio.run(_measure(config, context, url, key))
    metrics, rows = summarize(grid)
    for path in (context.staging / "serve.json", config.result):
        if path is not None:
            write_result(path, command=context.command, metrics=metrics, rows=rows)
    columns = [name for name in rows[0] if name != TABLE]
    write_text_atomic(context.staging / "table.md", markdown_table(rows, columns) + "\n")
    write_text_atomic(context.staging / "plot.svg", load_plot(rows))
    notes = ["stages/bench/serve/summary.py defines each figure", *_complaints(grid)]
    return StageResult(
        metrics=dict(metrics), rows=[{name: row[name] for name in SHOWN} for row in rows], notes=notes
    )


@contextmanager
def _server(config: ServeBenchConfig, key: str | None) -> Iterator[str]:
    if config.url is not None:
        yield config.url
        return
    assert config.model is not None
    slots = config.slots or max(config.concurrency)
    with started_server(config.model, slots=slots, device=config.device, key=key) as url:
        yield url


async def _measure(
    config: ServeBenchConfig, context: StageContext, url: str, key: str | None
) -> list[Measured]:
    points = [Point(*values) for values in product(config.isl, config.osl, config.concurrency)]
    grid: list[Measured] = []
    async with httpx2.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=None,  # a request has its own
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        trust_env=config.model is None,  # no proxy stands before a server that was started here
    ) as client:
        name = await served_model(client, url, max(config.isl) + max(config.osl))
        total = len(points) * config.requests
        with context.reporter.progress("asking", total=total, unit="request") as bar:
            for point in points:
                bar.update(0, isl=point.isl, osl=point.osl, clients=point.concurrency)
                measured = await run_point(
                    client,
                    name,
                    point,
                    requests=config.requests,
                    warmup=config.warmup,
                    seed=config.seed,
                    timeout=config.timeout,
                    answered=bar.update,
                )
                if all(answer.error for answer in measured.answers):
                    raise Nano2Error(
                        f"no request was answered: {measured.answers[0].error}",
                        where=f"{url}, isl {point.isl}, osl {point.osl}, {point.concurrency} clients",
                        remedy="see what the server has to say",
                    )
                grid.append(measured)
    return grid


def _complaints(grid: Sequence[Measured]) -> list[str]:
    """What went wrong, each kind of error once, and what the figures of short answers are not."""
    errors = Counter(answer.error for measured in grid for answer in measured.answers if answer.error)
    said = [f"{count} requests failed: {error}" for error, count in errors.most_common()]
    if any(
        not answer.error and answer.output_tokens < measured.point.osl
        for measured in grid
        for answer in measured.answers
    ):
        said.append("some answers are shorter than osl: the server ends them by itself")
    return said
