"""The process: its ready line, its plan, and its end."""

import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from model.errors import PlanRefusedError, UsageError
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.serve.config import ServeConfig
from stages.serve.plan import plan
from stages.serve.stage import STAGE
from tests.stages.serve.running import PATIENCE, process


def stream(url: str, tokens: int) -> Any:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=PATIENCE)
    return client.completions.create(
        model="served", prompt="Once", max_tokens=tokens, stream=True, extra_body={"ignore_eos": True}
    )


def test_what_is_going_on_is_finished(model: Path) -> None:
    with process(model, "--name", "served", "--drain-seconds", "100") as (server, url):
        chunks = stream(url, 200)
        next(chunks)
        server.send_signal(signal.SIGTERM)
        host, port = url.removeprefix("http://").split(":")
        end = time.monotonic() + PATIENCE
        while True:  # no new connection
            try:
                socket.create_connection((host, int(port))).close()
            except (ConnectionRefusedError, ConnectionResetError):
                break
            assert time.monotonic() < end
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        assert reasons[-1] == "length"
        stdout, stderr = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
        assert json.loads(stdout.splitlines()[-1])["status"] == "done"
        assert "1 texts are being finished" in stderr
        assert "Traceback" not in stderr


def test_what_takes_too_long_is_told_so(model: Path) -> None:
    with process(model, "--name", "served", "--drain-seconds", "0.5", "--max-length", "1M") as (server, url):
        chunks = stream(url, 900_000)
        next(chunks)
        failures: list[openai.APIError] = []

        def read() -> None:
            try:
                for _ in chunks:
                    pass
            except openai.APIError as error:
                failures.append(error)

        reading = threading.Thread(target=read)
        reading.start()
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=PATIENCE)
        reading.join(PATIENCE)
        assert server.returncode == 0
        assert "shutting down" in failures[0].message


def test_a_port_that_is_taken(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = ServeConfig(model=model, port=taken.getsockname()[1])
        with pytest.raises(UsageError, match="cannot listen"):
            run_stage(STAGE, config, out=None, reporter=QuietReporter(), command=["nano2", "serve"])


def test_the_plan_counts_slots_times_context(model: Path) -> None:
    planned = plan(ServeConfig(model=model, slots=3, max_length=1000))
    slot = planned.sections["A slot"]
    # One attention block: keys and values of 2 heads x 12, in float32.
    assert slot["kv_cache_bytes"] == 1000 * 2 * 2 * 12 * 4
    assert planned.peak_bytes == planned.sections["Memory"]["weights_bytes"] + 3 * int(slot["slot_bytes"])
    huge = ServeConfig(model=model, slots=10**6, max_length=10**6)
    assert "set slots or max_length lower" in plan(huge).refusals[0]
    with pytest.raises(PlanRefusedError):
        run_stage(STAGE, huge, out=None, reporter=QuietReporter(), command=["nano2", "serve"])
