"""What a request must pass before it is looked at: the API key, the size of its body, and the time that its body takes."""

import asyncio
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stages.serve.errors import ApiError

OPEN_PATHS = frozenset({"/health", "/openapi.json"})
"""Answered without a key."""

_DISCARDED = 8
"""So many times the largest body are read and thrown away before a refusal is sent: a client that is still sending
would meet a closed connection and never read why."""


class Gate:
    """ASGI middleware. `api_key` None: every request may come."""

    def __init__(self, app: ASGIApp, *, api_key: str | None, max_body: int, seconds: float) -> None:
        self._app = app
        self._api_key = None if api_key is None else api_key.encode()
        self._max_body = max_body
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(receive, self._max_body, asyncio.get_running_loop().time() + self._seconds)
        try:
            self._check_key(scope["path"], headers)
            body.check_length(headers)
        except ApiError as error:
            await body.discard()
            await error.response()(scope, receive, send)
            return
        await self._app(scope, body.receive, send)

    def _check_key(self, path: str, headers: Headers) -> None:
        if self._api_key is None or path in OPEN_PATHS:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            given.strip().encode("latin-1"), self._api_key
        ):
            raise ApiError(
                401,
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


class _Body:
    """The body of one request as it comes, counted."""

    def __init__(self, receive: Receive, limit: int, deadline: float) -> None:
        self._receive = receive
        self._limit = limit
        self._deadline = deadline
        self._size = 0
        self._whole = False

    def check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        if self._whole:  # what comes now is that the client leaves
            return await self._receive()
        message = await self._part()
        if self._size > self._limit:
            await self.discard()
            raise self._too_large()
        return message

    async def discard(self) -> None:
        """Read what is left of the body, unless it is far too much or does not come."""
        while not self._whole and self._size <= _DISCARDED * self._limit:
            try:
                await self._part()
            except ApiError:
                return

    async def _part(self) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self._whole = True
            raise ApiError(408, "the request did not arrive in time", code="timeout") from None
        self._size += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"the body is larger than {self._limit} bytes",
            code="body_too_large",
            headers={"Connection": "close"},
        )
