"""An answer on its way to its client: whole or streamed, within its time, and no longer than the client stays.

The first token is waited for before anything is sent, so that what fails until then has a status of its own. A failure
behind that ends a stream with an event that holds the error.
"""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from model.inference.generation import Update
from stages.serve.engine import Engine, Ticket
from stages.serve.errors import api_error
from stages.serve.served import Call, Chunk

Result = TypeVar("Result")

_FAREWELL = 5.0
"""Seconds for the last event of a stream that has failed: its client may have stopped reading."""


async def answer(engine: Engine, call: Call, receive: Receive, *, stream: bool, deadline: float) -> Response:
    """The response to a call. `deadline`, on the loop's clock, is that of the whole answer. Raises what the engine raises,
    TimeoutError, and ClientDisconnect; the requests are cancelled then."""
    ticket = engine.submit(call.requests)
    try:
        async with asyncio.timeout_at(deadline):
            first = await unless_disconnected(receive, anext(ticket))
            if stream:
                return EventStream(call, ticket, first, deadline)
            await unless_disconnected(receive, _take_all(call, ticket, first))
    except BaseException:
        ticket.leave()
        raise
    return JSONResponse(call.response())


async def _take_all(call: Call, ticket: Ticket, first: tuple[int, Update]) -> None:
    call.take(*first)
    async for number, update in ticket:
        call.take(number, update)


class EventStream(Response):
    """Server-sent events, one a chunk, and `[DONE]`."""

    media_type = "text/event-stream"

    def __init__(self, call: Call, ticket: Ticket, first: tuple[int, Update], deadline: float) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._call = call
        self._ticket = ticket
        self._first = first
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        async with self._ticket:
            with suppress(ClientDisconnect):
                await unless_disconnected(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._send_events(send)
                await send(_END)
        except Exception as error:
            known = api_error(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await send(_event(known.body))
                    await send(_END)
            if known.internal:
                raise

    async def _send_events(self, send: Send) -> None:
        for chunk in [*self._call.opening(), *self._call.take(*self._first)]:
            await send(_event(chunk))
        async for number, update in self._ticket:
            for chunk in self._call.take(number, update):
                await send(_event(chunk))
        for chunk in self._call.closing():
            await send(_event(chunk))


_END = {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False}


def _event(chunk: Chunk) -> dict[str, Any]:
    text = json.dumps(chunk, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return {"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True}


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """What the work gives; it is cancelled, and ClientDisconnect raised, if the client leaves before."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
