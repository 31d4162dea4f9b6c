"""Pairs by an OpenAI-compatible endpoint, through the `openai` client: many requests at a time, every answer kept at once.

An answer without a usable pair is asked for again. What stays without one falls out and is counted; a refusal that every
request would meet (401, 403, 404) ends the run at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator

import openai

from stages.common.endpoint import Endpoint, NoReplyError
from stages.common.stage import StopFlag
from stages.data.longqa.asking import Patience, interrupted, key_of, prompt_of
from stages.data.longqa.config import LongqaConfig
from stages.data.longqa.kept_pairs import KeptPairs
from stages.data.longqa.pairs import NoPair, Pair, Passage
from stages.data.longqa.replies import parse_reply

_GRACE = 5.0  # seconds that requests under way get after an interruption
_LOOK_EVERY = 0.2  # seconds between looks at the stop flag

_Task = asyncio.Task[Pair | NoPair]


class EndpointWriter:
    name = "endpoint"

    def __init__(self, config: LongqaConfig, kept: KeptPairs, stop: StopFlag) -> None:
        assert config.base_url is not None
        self._config = config
        self._endpoint = Endpoint(
            config.base_url,
            config.endpoint_model or "",
            config.api_key_env,
            temperature=config.temperature,
            max_tokens=config.reply_tokens,
            timeout=config.timeout,
            retries=config.retries,
            spell=lambda name: "--" + name.replace("_", "-"),
        )
        self._endpoint.key  # noqa: B018  # a key that lacks is told before anything is read
        self._kept = kept
        self._stop = stop

    def write(self, passages: Iterable[Passage]) -> Iterator[Pair | NoPair]:
        patience = Patience(self._config.max_failed_share, where=self._endpoint.base_url)
        source = iter(passages)
        waiting: deque[_Task] = deque()
        more = True
        with asyncio.Runner() as runner:
            client = runner.run(self._endpoint.open())
            free = asyncio.Semaphore(self._config.concurrency)
            try:
                while more or waiting:
                    while more and len(waiting) < 4 * self._config.concurrency:
                        passage = next(source, None)
                        if passage is None:
                            more = False
                            break
                        waiting.append(
                            runner.get_loop().create_task(self._pair(client, free, passage, patience))
                        )
                    if waiting:
                        yield runner.run(self._first(waiting))
            finally:
                runner.run(_close(client, waiting))
        patience.finish()

    async def _first(self, waiting: deque[_Task]) -> Pair | NoPair:
        """What became of the foremost request, while all of them go on. Raises when any has met what ends the run."""
        while True:
            under_way = [task for task in waiting if not task.done()]
            if self._stop:
                if under_way:
                    await asyncio.wait(under_way, timeout=_GRACE)
                raise interrupted(self._kept)
            for task in waiting:
                if task.done():
                    task.result()
            if waiting[0].done():
                return waiting.popleft().result()
            await asyncio.wait(under_way, timeout=_LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)

    async def _pair(
        self, client: openai.AsyncOpenAI, free: asyncio.Semaphore, passage: Passage, patience: Patience
    ) -> Pair | NoPair:
        key = key_of(passage)
        outcome: Pair | NoPair | None = self._kept.get(key)
        if outcome is None:
            async with free:
                if self._stop:
                    raise interrupted(self._kept)
                outcome = await self._ask(client, passage)
            if isinstance(outcome, Pair):
                self._kept.add(key, outcome)
        patience.count(outcome)
        return outcome

    async def _ask(self, client: openai.AsyncOpenAI, passage: Passage) -> Pair | NoPair:
        left = self._config.retries
        while True:
            try:
                reply, cut_off = await self._endpoint.reply(client, prompt_of(passage))
            except NoReplyError as error:
                return NoPair(str(error))
            outcome = parse_reply(reply, passage.text, cut_off=cut_off)
            if isinstance(outcome, Pair) or not left or self._stop:
                return outcome
            left -= 1


async def _close(client: openai.AsyncOpenAI, tasks: Iterable[_Task]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()
