"""A real server on a free port, in a thread of this process or in a process of its own."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai

from model.hybrid import HybridLM
from model.loading import load
from stages.common.reporter import QuietReporter
from stages.serve.config import ServeConfig
from stages.serve.run import bound, serve

PATIENCE = 120.0
"""Seconds that anything may take on a busy machine."""


@dataclass
class Running:
    """url: without /v1. lm: what it serves, in this process."""

    url: str
    lm: HybridLM

    def client(self, **settings: Any) -> openai.OpenAI:
        return openai.OpenAI(**self._settings(**settings))

    def asynchronous(self, **settings: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**self._settings(**settings))

    def _settings(self, **settings: Any) -> dict[str, Any]:
        return {
            "base_url": f"{self.url}/v1",
            "api_key": "none",
            "max_retries": 0,
            "timeout": PATIENCE,
            **settings,
        }

    def health(self) -> dict[str, Any]:
        state: dict[str, Any] = httpx2.get(f"{self.url}/health", timeout=PATIENCE).json()
        return state

    def wait_for(self, **wanted: int) -> None:
        """Until /health says so."""
        until(lambda: wanted.items() <= self.health().items())


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@contextmanager
def running(model: Path, lm: HybridLM | None = None, **settings: Any) -> Iterator[Running]:
    """In a thread. `lm`: served in place of what lies in `model`, whose tokenizer and name it has."""
    config = ServeConfig.model_validate({"model": model, "port": 0, **settings})
    lm = load(model) if lm is None else lm
    reporter = QuietReporter()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def main(listener: Any) -> None:
        task = asyncio.create_task(serve(config, lm, listener, reporter))
        loops.append((asyncio.get_running_loop(), task))
        await asyncio.wait([task])

    with bound(config.host, config.port) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(main(listener)))
        thread.start()
        try:
            until(lambda: bool(reporter.events))
            yield Running(str(reporter.events[0]["url"]), lm)
        finally:
            loop, task = loops[0]
            loop.call_soon_threadsafe(task.cancel)
            thread.join(PATIENCE)
            assert not thread.is_alive()


@contextmanager
def process(model: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`nano2 serve` as users start it, and its URL."""
    command = [sys.executable, "-m", "nano2cli", "serve", "-m", str(model), "--port", "0", "--json", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as started:
        try:
            assert started.stdout is not None
            ready = json.loads(started.stdout.readline())
            assert ready["event"] == "ready"
            yield started, ready["url"]
        finally:
            started.kill()
