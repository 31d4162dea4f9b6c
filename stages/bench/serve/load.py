"""The load: at each point of the grid some clients, each of which asks again as soon as it is answered."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx2

from stages.bench.serve.client import Answer, ask

LOWEST_ID, IDS = 32, 256
"""Prompts are drawn from these ids: every vocabulary has them, and a tokenizer made here has its bytes there."""


@dataclass(frozen=True)
class Point:
    isl: int
    osl: int
    concurrency: int


@dataclass(frozen=True)
class Measured:
    """seconds: from the first request to the end of the last answer."""

    point: Point
    seconds: float
    answers: tuple[Answer, ...]


def prompt(seed: int, point: Point, number: int | str) -> list[int]:
    """Random ids. No two requests have the same, so that no cache of prefixes helps; every run has them again."""
    draw = random.Random(f"{seed}/{point.isl}/{point.osl}/{point.concurrency}/{number}")
    return [LOWEST_ID + draw.randrange(IDS) for _ in range(point.isl)]


async def run_point(
    client: httpx2.AsyncClient,
    model: str,
    point: Point,
    *,
    requests: int,
    warmup: int,
    seed: int,
    timeout: float,
    answered: Callable[[], None],
) -> Measured:
    """Each client's warm-up, then `requests` by all clients together. `answered` is called behind each of these."""

    async def work(numbers: Iterator[int | str], answers: list[Answer]) -> None:
        for number in numbers:
            prompt_ids = prompt(seed, point, number)
            answers.append(await ask(client, model, prompt_ids, point.osl, timeout))
            if isinstance(number, int):
                answered()

    async def by_all(numbers: Iterator[int | str]) -> list[Answer]:
        answers: list[Answer] = []
        async with asyncio.TaskGroup() as clients:
            for _ in range(point.concurrency):
                clients.create_task(work(numbers, answers))
        return answers

    await by_all(f"warm-up {number}" for number in range(warmup * point.concurrency))
    start = time.perf_counter()
    answers = await by_all(iter(range(requests)))
    return Measured(point, time.perf_counter() - start, tuple(answers))
