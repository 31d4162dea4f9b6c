"""`nano2 serve`: the model, the engine's thread, the server, and an end in which what is going on is answered."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import uvicorn

from evals.encoding import RequestEncoder
from model.errors import UsageError
from model.hybrid import HybridLM
from model.inference.generation import Generator, Request
from model.inference.stopping import stop_token_ids
from model.loading import load
from model.tokenizer import load_tokenizer
from stages.common.reporter import Reporter
from stages.common.stage import StageContext, StageResult
from stages.common.training.hardware import resolve_device
from stages.serve.app import make_app
from stages.serve.config import API_KEY_VARIABLE, ServeConfig
from stages.serve.engine import Engine
from stages.serve.served import Served
from stages.serve.tokens import TokenTexts

_LAST_WORDS = 2.0
"""Seconds for the errors that end what did not end by itself."""

_LAST_STEP = 60.0
"""Seconds for the step that is going on when all is over."""


def run(config: ServeConfig, context: StageContext) -> StageResult:
    """Returns when the server was told to stop and has."""
    with bound(config.host, config.port) as listener:
        lm = load(config.model, device=resolve_device(config.device), dtype=config.dtype)
        warm_up(lm, config.slots)
        asyncio.run(serve(config, lm, listener, context.reporter))
    return StageResult(notes=["stopped"])


def warm_up(lm: HybridLM, slots: int) -> None:
    """Compile what the first request would wait for. ArtifactError if the model computes no finite numbers."""
    Generator(lm, max_rows=slots).run([Request([0], max_tokens=2)] * min(slots, 2))


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has its address, before a model is loaded for nothing, and listens once it is served. UsageError if it
    cannot have it."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UsageError(
            f"cannot listen there ({error.strerror or error})",
            where=f"{host} port {port}",
            remedy="choose another --host or --port; --port 0 takes a free one",
        ) from error
    with listener:
        yield listener


def shared_tokenizer(config: ServeConfig, lm: HybridLM) -> Any:
    """For several threads at a time: with neither truncation nor padding set, encoding changes nothing in it."""
    tokenizer = load_tokenizer(config.model, lm.config.vocab_size)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def served_model(config: ServeConfig, lm: HybridLM, tokenizer: Any) -> Served:
    """What the API needs to know of the model."""
    return Served(
        name=config.name or config.model.resolve().name,
        tokenizer=tokenizer,
        text_stop_ids=stop_token_ids(config.model, lm.config, tokenizer, chat=False),
        chat_stop_ids=stop_token_ids(config.model, lm.config, tokenizer, chat=True),
        max_length=config.max_length or lm.config.max_position_embeddings,
        max_tokens=config.max_tokens,
        max_choices=config.max_queue,
        texts=TokenTexts(tokenizer),
        encoder=RequestEncoder(tokenizer),
    )


async def serve(config: ServeConfig, lm: HybridLM, listener: socket.socket, reporter: Reporter) -> None:
    """Answer requests until a signal comes, then what is going on, for `drain_seconds` at most. In a thread that gets no
    signals: until cancelled."""
    tokenizer = shared_tokenizer(config, lm)
    served = served_model(config, lm, tokenizer)
    engine = Engine(
        lambda: Generator(lm, tokenizer, max_rows=config.slots, prefill_chunk=config.prefill_chunk),
        max_queue=config.max_queue,
        on_failure=lambda error: reporter.warn(f"what was being generated has failed: {error}"),
    )
    app = make_app(
        served,
        engine,
        slots=config.slots,
        api_key=config.api_key or os.environ.get(API_KEY_VARIABLE) or None,
        max_body=config.max_body,
        request_seconds=config.request_seconds,
    )
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(config.drain_seconds + _LAST_WORDS) + 1,
        )
    )
    url = _url(listener)
    try:
        with _told_by_signals(server, engine, config.drain_seconds, reporter):
            serving = asyncio.create_task(server.serve([listener]))
            while not (server.started or serving.done()):
                await asyncio.sleep(0.01)
            reporter.event(
                {"event": "ready", "url": url, "model": served.name},
                f"ready: {url}/v1 serves {served.name}, {config.slots} texts at a time",
            )
            await serving
    finally:
        engine.close()
        await asyncio.to_thread(engine.join, _LAST_STEP)


class _Server(uvicorn.Server):
    """Signals are handled here, not by uvicorn, which would send them to the process again at its end."""

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
        return nullcontext()


@contextmanager
def _told_by_signals(
    server: uvicorn.Server, engine: Engine, drain_seconds: float, reporter: Reporter
) -> Iterator[None]:
    """A first SIGINT or SIGTERM lets the server end; a second ends the process at once."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(number: signal.Signals) -> None:
        for each in signals:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        reporter.log(
            f"{number.name}: no new requests; {engine.running + engine.waiting} texts are being finished"
        )
        server.should_exit = True
        loop.call_later(drain_seconds, engine.close)

    try:
        for each in signals:
            loop.add_signal_handler(each, stop, each)
    except (ValueError, RuntimeError):  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
