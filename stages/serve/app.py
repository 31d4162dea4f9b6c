"""The routes of the server."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from stages.serve.answering import answer
from stages.serve.chat import ChatCall
from stages.serve.completions import CompletionCall
from stages.serve.engine import Engine
from stages.serve.errors import ApiError, api_error, install
from stages.serve.limits import Gate
from stages.serve.protocol.chat import ChatRequest
from stages.serve.protocol.completions import CompletionRequest
from stages.serve.served import Call, Served


def make_app(
    served: Served, engine: Engine, *, slots: int, api_key: str | None, max_body: int, request_seconds: float
) -> FastAPI:
    """The ASGI application. Requests are turned into prompts in one thread of their own, so that a long one stops
    nothing else."""
    app = FastAPI(title="nano2", docs_url=None, redoc_url=None)
    install(app)
    app.add_middleware(Gate, api_key=api_key, max_body=max_body, seconds=request_seconds)
    preparing = ThreadPoolExecutor(1, "preparing")
    started = int(time.time())
    model = {"id": served.name, "object": "model", "created": started, "owned_by": "nano2"}
    model["max_model_len"] = served.max_length

    async def answered(make_call: Callable[[], Call], request: Request, stream: bool) -> Response:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request_seconds
        try:
            async with asyncio.timeout_at(deadline):
                call = await loop.run_in_executor(preparing, make_call)
            return await answer(engine, call, request.receive, stream=stream, deadline=deadline)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:
            known = api_error(error)
            if known.internal:
                raise
            raise known from error

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        return await answered(lambda: ChatCall(served, body), request, body.stream)

    @app.post("/v1/completions", response_model=None)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await answered(lambda: CompletionCall(served, body), request, body.stream)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}")
    async def model_of(name: str) -> dict[str, Any]:
        if name != served.name:
            raise ApiError(
                404, f"the model {name!r} is not served here", param="model", code="model_not_found"
            )
        return model

    @app.get("/health", response_model=None)
    async def health() -> Response:
        state = {"running": engine.running, "waiting": engine.waiting, "slots": slots}
        if engine.closed:
            return JSONResponse({"status": "shutting down", **state}, 503)
        return JSONResponse({"status": "ok", **state})

    return app
