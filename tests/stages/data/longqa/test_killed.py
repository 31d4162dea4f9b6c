"""The command in a process of its own: sudden death loses no answer, and failures end with their exit codes."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

from tests.forked import Forked
from tests.stages.common.data.helpers import write_jsonl
from tests.stages.data.longqa.conftest import chronicle
from tests.stages.data.longqa.server import Answer, Endpoint, error, good_pair

ROOT = Path(__file__).parents[4]


def _start(folder: Path, tokenizer: Path, endpoint: Endpoint) -> Forked:
    flags = {
        "data": "d.jsonl",
        "tokenizer": tokenizer,
        "out": "out",
        "writer": "endpoint",
        "base-url": endpoint.url,
        "endpoint-model": "m",
        "min-tokens": 256,
        "chunk-tokens": 64,
        "share": 1,
        "workers": 1,
        "retries": 0,
        "concurrency": 2,
    }
    arguments = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    environment = {"NO_PROXY": "*", "no_proxy": "*", "COLUMNS": "120"}
    return Forked("data", "longqa", *arguments, "--json", cwd=folder, environment=environment)


def _finish(process: Forked) -> tuple[int, dict[str, Any], str]:
    stdout, stderr = process.communicate(timeout=60)
    return process.wait(), json.loads(stdout.splitlines()[-1]), stderr


def test_a_killed_run_is_continued_and_asks_for_nothing_twice(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    write_jsonl(tmp_path / "d.jsonl", [chronicle(1, 7)])
    reached = threading.Event()

    def behave(number: int, prompt: str) -> Answer:
        if number < 10:
            return good_pair(prompt)
        reached.set()
        return Answer(b"", hang=60)

    with Endpoint().running() as endpoint:
        endpoint.behave = behave
        process = _start(tmp_path, tokenizer_directory, endpoint)
        assert reached.wait(60)
        # The eleventh request went out when nine answers, at least, had been kept.
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "out").exists()
        answered = set(endpoint.prompts()[:10])
        endpoint.requests.clear()
        endpoint.behave = lambda number, prompt: error(401, "your key has expired")
        code, said, stderr = _finish(_start(tmp_path, tokenizer_directory, endpoint))
        assert (code, said["error"]["type"]) == (2, "UsageError")
        assert "your key has expired" in said["error"]["what"]
        assert "the same command continues" in stderr
        assert len(stderr.splitlines()) <= 8
        endpoint.requests.clear()
        endpoint.behave = lambda number, prompt: good_pair(prompt)
        code, said, stderr = _finish(_start(tmp_path, tokenizer_directory, endpoint))
    assert code == 0
    assert "continuing the run" in stderr
    assert len(answered & set(endpoint.prompts())) <= 1
    metrics = said["metrics"]
    assert (
        9 + len(endpoint.requests)
        <= metrics["pairs"]
        == metrics["sampled_chunks"]
        <= 10 + len(endpoint.requests)
    )
    assert sorted(os.listdir(tmp_path)) == ["d.jsonl", "out"]
