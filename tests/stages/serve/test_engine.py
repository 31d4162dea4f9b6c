"""The engine's thread: who waits, who leaves, what a step that fails takes with it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import torch

from model.errors import UsageError
from model.hybrid import HybridLM
from model.inference.generation import Generator, Request
from stages.serve.engine import ClosedError, Engine, QueueFullError, Ticket
from tests.model.miniatures import miniature, randomized

CONFIG = miniature("M*-", max_position_embeddings=4096)


@asynccontextmanager
async def started(lm: HybridLM, rows: int = 2, queue: int = 4) -> AsyncIterator[Engine]:
    engine = Engine(lambda: Generator(lm, max_rows=rows), max_queue=queue)
    try:
        yield engine
    finally:
        engine.close()
        await asyncio.to_thread(engine.join, 60)


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def tokens(ticket: Ticket) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    async for number, update in ticket:
        if update.completion is not None:
            found[number] = update.completion.token_ids
    return [found[number] for number in sorted(found)]


def test_many_requests_get_what_each_gets_alone() -> None:
    lm = randomized(CONFIG)
    requests = [Request([number + 1] * (number + 1), max_tokens=9) for number in range(6)]
    expected = [Generator(lm).run([request])[0].token_ids for request in requests]

    async def main() -> None:
        async with started(lm, queue=8) as engine:
            tickets = [engine.submit(requests[:3]), *(engine.submit([request]) for request in requests[3:])]
            found = await asyncio.gather(*map(tokens, tickets))
            assert [ids for each in found for ids in each] == expected
            assert (engine.running, engine.waiting) == (0, 0)

    asyncio.run(main())


def test_whoever_leaves_frees_the_row_and_the_queue() -> None:
    async def main() -> None:
        async with started(randomized(CONFIG), rows=1) as engine:
            endless = Request([1], max_tokens=100_000)
            async with engine.submit([endless]) as first, engine.submit([endless]) as second:
                await anext(first)
                assert (engine.running, engine.waiting) == (1, 1)
                second.leave()
                assert engine.waiting == 0
                last = engine.submit([Request([2], max_tokens=3)])
            assert [len(ids) for ids in await tokens(last)] == [3]
            await settled(lambda: engine.running == 0)

    asyncio.run(main())


def test_the_queue_is_full_for_all_or_none() -> None:
    async def main() -> None:
        async with started(randomized(CONFIG), rows=1, queue=2) as engine:
            endless = Request([1], max_tokens=100_000)
            first = engine.submit([endless])
            await anext(first)
            engine.submit([endless])
            with pytest.raises(QueueFullError):
                engine.submit([endless, endless])
            assert engine.waiting == 1
            engine.submit([endless])

    asyncio.run(main())


def test_a_request_that_cannot_be_generated_for_is_refused_at_once() -> None:
    async def main() -> None:
        async with started(randomized(CONFIG)) as engine:
            with pytest.raises(UsageError, match="outside of 0 to 95"):
                engine.submit([Request([1], max_tokens=1), Request([96], max_tokens=1)])
            assert engine.waiting == 0

    asyncio.run(main())


def test_a_step_that_fails_ends_what_was_generated_and_nothing_else() -> None:
    lm = randomized(CONFIG)
    expected = [Generator(lm).run([Request([2], max_tokens=4)])[0].token_ids]
    logits = lm.logits

    def fail_once(hidden: torch.Tensor) -> torch.Tensor:
        lm.logits = logits  # type: ignore[method-assign]
        raise MemoryError("no room")

    async def main() -> None:
        async with started(lm, rows=2, queue=8) as engine:
            endless = Request([1], max_tokens=100_000)
            three = engine.submit([endless, endless, endless])  # two are generated for, one waits
            await anext(three)
            waiting = engine.submit([Request([2], max_tokens=4)])
            lm.logits = fail_once  # type: ignore[method-assign]
            with pytest.raises(MemoryError, match="no room"):
                await tokens(three)
            with pytest.raises(StopAsyncIteration):  # once
                await anext(three)
            assert await tokens(waiting) == expected
            assert await tokens(engine.submit([Request([2], max_tokens=4)])) == expected
            await settled(lambda: (engine.running, engine.waiting) == (0, 0))

    asyncio.run(main())


def test_closing_ends_everything() -> None:
    async def main() -> None:
        async with started(randomized(CONFIG), rows=1) as engine:
            endless = Request([1], max_tokens=100_000)
            tickets = [engine.submit([endless]), engine.submit([endless])]
            await anext(tickets[0])
            engine.close()
            for ticket in tickets:
                with pytest.raises(ClosedError):
                    await tokens(ticket)
            with pytest.raises(ClosedError):
                engine.submit([endless])

    asyncio.run(main())
