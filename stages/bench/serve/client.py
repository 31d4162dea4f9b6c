"""One completion, streamed, as its client sees it."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from model.errors import first_line


@dataclass(frozen=True)
class Answer:
    """sent, arrivals: when the request was sent, and when each event came that brought text or the end, in seconds of one
    clock. prompt_tokens, output_tokens: as the server counts them. error: why there is no whole answer, or ""."""

    sent: float
    arrivals: tuple[float, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0
    error: str = ""

    @property
    def first_token_seconds(self) -> float:
        return self.arrivals[0] - self.sent

    @property
    def seconds(self) -> float:
        return self.arrivals[-1] - self.sent


class _NoAnswerError(Exception):
    """The server has sent something else than an answer; the text says what."""


@dataclass
class _Stream:
    """What came so far."""

    arrivals: list[float] = field(default_factory=list)
    usage: dict[str, Any] | None = None

    def take(self, data: str, now: float) -> None:
        event = json.loads(data)
        if not isinstance(event, dict) or "error" in event:
            raise _NoAnswerError(_said(event))
        if any(choice.get("text") or choice.get("finish_reason") for choice in event.get("choices") or ()):
            self.arrivals.append(now)
        self.usage = event.get("usage") or self.usage


async def ask(
    client: httpx2.AsyncClient, model: str, prompt_ids: Sequence[int], osl: int, timeout: float
) -> Answer:
    """Send one request and read its answer to the end. Never raises: what goes wrong is the answer's `error`."""
    body = {
        "model": model,
        "prompt": list(prompt_ids),
        "max_tokens": osl,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent = time.perf_counter()
    try:
        async with asyncio.timeout(timeout):
            stream = await _read(client, body)
        usage = stream.usage
        if usage is None:
            raise _NoAnswerError("the stream ended without usage, so that its tokens cannot be counted")
        if not stream.arrivals:
            raise _NoAnswerError("the stream brought no text and no end")
        return Answer(
            sent, tuple(stream.arrivals), int(usage["prompt_tokens"]), int(usage["completion_tokens"])
        )
    except TimeoutError:
        return Answer(sent, error=f"no whole answer within {timeout:g} seconds")
    except _NoAnswerError as error:
        return Answer(sent, error=str(error))
    except httpx2.HTTPError as error:
        return Answer(sent, error=f"the connection failed ({first_line(error)})")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Answer(sent, error="what came is no completion")


async def _read(client: httpx2.AsyncClient, body: dict[str, Any]) -> _Stream:
    stream = _Stream()
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != httpx2.codes.OK:
            raise _NoAnswerError(f"status {response.status_code}, {_said_in(await response.aread())}")
        async for event in httpx2.EventSource(response):
            if event.data == "[DONE]":
                return stream
            stream.take(event.data, time.perf_counter())
    raise _NoAnswerError("the stream broke off")


def _said_in(content: bytes) -> str:
    try:
        return _said(json.loads(content))
    except ValueError:
        return content[:200].decode(errors="replace")


def _said(event: Any) -> str:
    """The server's own words, in OpenAI's form or not."""
    error = event.get("error", event) if isinstance(event, dict) else event
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(message).split())[:200]
