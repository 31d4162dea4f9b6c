"""Pairs by an OpenAI-compatible endpoint, through the `openai` client: many requests at a time, every answer kept at once.

The client itself retries what may pass (no connection, 408, 409, 429, 5xx, time-outs) with growing waits, or the wait
that the server asks for. An answer without a usable pair is asked for again. What stays without one falls out and is
counted; a refusal that every request would meet (401, 403, 404) ends the run at once.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable, Iterator

import openai
from openai.types.chat import ChatCompletion

from model.errors import UsageError
from stages.common.stage import StopFlag
from stages.data.longqa.asking import Patience, interrupted, key_of, prompt_of
from stages.data.longqa.config import LongqaConfig
from stages.data.longqa.kept_pairs import KeptPairs
from stages.data.longqa.pairs import NoPair, Pair, Passage
from stages.data.longqa.replies import parse_reply

_LONGEST_WAIT = 120.0  # seconds that the client lets a server ask for before it takes the answer as a refusal
_GRACE = 5.0  # seconds that requests under way get after an interruption
_LOOK_EVERY = 0.2  # seconds between looks at the stop flag

_Task = asyncio.Task[Pair | NoPair]


class EndpointWriter:
    name = "endpoint"

    def __init__(self, config: LongqaConfig, kept: KeptPairs, stop: StopFlag) -> None:
        assert config.base_url is not None
        self._config = config
        self._where = config.base_url
        self._kept = kept
        self._stop = stop
        self._key = _api_key(config.api_key_env)

    def write(self, passages: Iterable[Passage]) -> Iterator[Pair | NoPair]:
        patience = Patience(self._config.max_failed_share, where=self._where)
        source = iter(passages)
        waiting: deque[_Task] = deque()
        more = True
        with asyncio.Runner() as runner:
            client = runner.run(self._open())
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

    async def _open(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=self._config.base_url,
            api_key=self._key,
            timeout=self._config.timeout,
            max_retries=self._config.retries,
        )

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
                reply, cut_off = await self._reply(client, prompt_of(passage))
            except _NoReplyError as error:
                return NoPair(str(error))
            outcome = parse_reply(reply, passage.text, cut_off=cut_off)
            if isinstance(outcome, Pair) or not left or self._stop:
                return outcome
            left -= 1

    async def _reply(self, client: openai.AsyncOpenAI, prompt: str) -> tuple[str, bool]:
        """The text and whether it was cut off. _NoReplyError if there is none; UsageError if no request can have one."""
        config = self._config
        attempts = 1 + config.retries
        try:
            # The client's time-outs are between bytes; this one holds for a server that sends one now and then.
            async with asyncio.timeout(attempts * config.timeout + config.retries * _LONGEST_WAIT):
                completion = await client.chat.completions.create(
                    model=config.endpoint_model or "",
                    messages=[{"role": "user", "content": prompt}],
                    temperature=config.temperature,
                    max_tokens=config.reply_tokens,
                )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from error
        except openai.APIStatusError as error:
            raise _NoReplyError(f"the endpoint answered {error.status_code}{_reason(error)}") from error
        except (openai.APITimeoutError, TimeoutError) as error:
            raise _NoReplyError(f"no answer within {config.timeout:g} seconds") from error
        except openai.APIConnectionError as error:
            cause = str(error.__cause__ or error) or type(error.__cause__).__name__
            raise _NoReplyError(f"no connection ({cause})") from error
        except (openai.OpenAIError, ValueError) as error:  # the client could not read what came
            raise _NoReplyError("the answer is no chat completion") from error
        return _content(completion)

    def _refused(self, error: openai.APIStatusError) -> UsageError:
        what = {
            401: "the endpoint does not accept the API key",
            403: "the endpoint refuses access",
            404: f"the endpoint knows no model {self._config.endpoint_model!r}, or the address is wrong",
        }[error.status_code]
        remedy = "check --base-url and --endpoint-model"
        if error.status_code != 404:
            remedy = (
                f"check the key in ${self._config.api_key_env}"
                if self._config.api_key_env
                else "name the environment variable that holds your key with --api-key-env"
            )
        return UsageError(what + _reason(error), where=self._where, remedy=remedy)


async def _close(client: openai.AsyncOpenAI, tasks: Iterable[_Task]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


class _NoReplyError(Exception):
    """The endpoint gave no answer to a request; the text says why."""


def _api_key(variable: str | None) -> str:
    """The key; a word that is none where no key is wanted, so that the client takes none from the environment."""
    if variable is None:
        return "none"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(
            f"the environment variable {variable} is not set",
            where="api_key_env",
            remedy=f"put the endpoint's API key into {variable}",
        )
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"the environment variable {variable} holds characters that no API key has",
            where="api_key_env",
            remedy=f"put the endpoint's API key, and nothing else, into {variable}",
        )
    return key


def _reason(error: openai.APIStatusError) -> str:
    """What the server says about an error, as far as it is a short text."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return f" ({' '.join(said.split())[:160]})" if isinstance(said, str) and said.strip() else ""


def _content(completion: object) -> tuple[str, bool]:
    """The text and whether it was cut off. The client does not check what a server sends: anything may be missing."""
    choices = completion.choices if isinstance(completion, ChatCompletion) else None
    if not (isinstance(choices, list) and choices):
        raise _NoReplyError("the answer is no chat completion")
    content = getattr(getattr(choices[0], "message", None), "content", None)
    cut_off = getattr(choices[0], "finish_reason", None) == "length"
    return (content if isinstance(content, str) else ""), cut_off
