"""`nano2 bench serve` against a real server on a miniature: lengths, figures, what goes wrong; and figures by hand."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx2
import pytest
from pydantic import ValidationError

from model.artifact.provenance import read_provenance
from model.errors import ArtifactError, Nano2Error, UsageError
from stages.bench.serve.client import Answer, ask
from stages.bench.serve.config import KEY_VARIABLE, ServeBenchConfig
from stages.bench.serve.load import Measured, Point, prompt, run_point
from stages.bench.serve.server import started_server
from stages.bench.serve.summary import summarize
from stages.bench.stage import SERVE
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.results import read_result
from stages.common.stage import StageOutcome
from tests.stages.serve.running import Running, running

GRID: dict[str, Any] = {"isl": "8,24", "osl": "6", "concurrency": "1,3", "requests": 4, "warmup": 1}


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Running]:
    with running(model, name="tiny", slots=4) as server:
        yield server


def bench(out: Path, **settings: Any) -> StageOutcome:
    config = ServeBenchConfig.model_validate(settings)
    return run_stage(SERVE, config, out=out, reporter=QuietReporter(), command=["nano2", "bench", "serve"])


def test_the_grid_is_measured_and_written(server: Running, tmp_path: Path) -> None:
    published = tmp_path / "docs" / "serve-cpu.json"
    outcome = bench(tmp_path / "out", url=f"{server.url}/v1/", result=published, **GRID)
    metrics = outcome.result.metrics
    assert (metrics["requests"], metrics["errors"], metrics["short"]) == (16, 0, 0)
    rows = read_result(published).table("load")
    assert [(row["isl"], row["osl"], row["concurrency"]) for row in rows] == [
        (8, 6, 1),
        (8, 6, 3),
        (24, 6, 1),
        (24, 6, 3),
    ]
    for row in rows:
        tokens, seconds = 4 * 6, row["seconds"]
        assert row["output_tok_per_s"] == pytest.approx(tokens / seconds, rel=0.01)
        assert row["total_tok_per_s"] == pytest.approx((tokens + 4 * row["isl"]) / seconds, rel=0.01)
        assert 0 < row["ttft_p50_ms"] < row["latency_p50_ms"] <= 1e3 * seconds
        assert row["ttft_p50_ms"] <= row["ttft_p95_ms"]
        assert row["latency_mean_ms"] == pytest.approx(row["ttft_mean_ms"] + 5 * row["itl_mean_ms"], rel=0.01)
    assert metrics["ttft_p50_ms_24_6_c3"] == rows[3]["ttft_p50_ms"]
    assert metrics["output_tok_per_s_best"] == max(row["output_tok_per_s"] for row in rows)
    assert read_result(tmp_path / "out" / "serve.json").rows == read_result(published).rows
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)
    plot = ElementTree.fromstring((tmp_path / "out" / "plot.svg").read_text())
    text = "".join(plot.itertext())
    assert "isl 8, osl 6" in text
    assert "isl 24, osl 6" in text
    assert read_provenance(tmp_path / "out").kind == "bench"  # type: ignore[union-attr]


def test_an_answer_is_what_the_server_gives_with_as_many_tokens_as_asked_for(server: Running) -> None:
    """Also where the model would end by itself: greedily from here it does not, so any token ends it."""
    ids = prompt(0, Point(10, 12, 1), 0)

    async def answer() -> Answer:
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
            return await ask(client, "tiny", ids, 12, 60)

    answer_ = asyncio.run(answer())
    assert (answer_.prompt_tokens, answer_.output_tokens, answer_.error) == (10, 12, "")
    assert 1 <= len(answer_.arrivals) <= 13
    assert answer_.sent < answer_.arrivals[0] <= answer_.arrivals[-1]


def test_so_many_clients_ask_at_a_time_and_no_prompt_comes_twice(server: Running) -> None:
    most, seen = 0, 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            state = server.health()
            most = max(most, state["running"] + state["waiting"])

    def answered() -> None:
        nonlocal seen
        seen += 1

    async def measure() -> Measured:
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
            return await run_point(
                client, "tiny", Point(8, 40, 3), requests=9, warmup=1, seed=0, timeout=60, answered=answered
            )

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        measured = asyncio.run(measure())
    finally:
        done.set()
        watcher.join()
    assert most == 3
    assert seen == len(measured.answers) == 9
    prompts = {tuple(prompt(0, Point(8, 4, 3), number)) for number in (*range(9), "warm-up 0", "warm-up 1")}
    assert len(prompts) == 11
    assert prompt(0, Point(8, 4, 3), 1) == prompt(0, Point(8, 4, 3), 1) != prompt(1, Point(8, 4, 3), 1)


def test_errors_are_counted_and_told(server: Running, tmp_path: Path) -> None:
    with pytest.raises(Nano2Error, match=r"no whole answer within 0\.001 seconds"):
        bench(tmp_path / "late", url=server.url, **GRID | {"timeout": 0.001})
    assert not (tmp_path / "late").exists()
    point = Point(8, 4, 2)
    whole = Answer(0.0, (1.0, 2.0), 8, 4)
    metrics, (row,) = summarize([Measured(point, 4.0, (whole, Answer(0.0, error="status 500, no"), whole))])
    assert (metrics["errors"], row["errors"], row["requests"]) == (1, 1, 3)
    assert row["output_tok_per_s"] == 2


def test_figures_by_hand() -> None:
    point = Point(10, 4, 2)
    answers = (Answer(0.0, (1.0, 1.2, 1.4, 2.0), 10, 4), Answer(0.5, (2.5, 3.5), 10, 3))
    metrics, (row,) = summarize([Measured(point, 4.0, answers)])
    assert row["output_tok_per_s"] == 7 / 4
    assert row["total_tok_per_s"] == 27 / 4
    assert row["request_per_s"] == 0.5
    assert row["short"] == metrics["short"] == 1
    assert (row["ttft_mean_ms"], row["ttft_p50_ms"]) == (1500, 1500)
    assert row["itl_mean_ms"] == pytest.approx(1e3 * (1.0 + 1.0) / (3 + 2))
    assert row["itl_p50_ms"] == pytest.approx(400)  # of 200, 200, 600, 1000
    assert row["latency_p95_ms"] == pytest.approx(2950)
    (alone,) = summarize([Measured(point, 1.0, (Answer(0.0, (1.0,), 10, 1),))])[1]
    assert alone["itl_mean_ms"] is alone["itl_p50_ms"] is None


def test_servers_that_cannot_be_measured(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no server answers"):
        bench(tmp_path / "out", url="http://127.0.0.1:9", **GRID)
    with pytest.raises(UsageError, match="gives no model"):
        bench(tmp_path / "out", url=f"{server.url}/health", **GRID)
    with pytest.raises(UsageError, match="isl and osl are 2024 tokens together, and tiny reads 256"):
        bench(tmp_path / "out", url=server.url, **GRID | {"osl": "2k"})
    with pytest.raises(UsageError, match="NO_SUCH_KEY is not set"):
        bench(tmp_path / "out", url=server.url, api_key_env="NO_SUCH_KEY", **GRID)
    with pytest.raises(UsageError, match="no name for a result file"):
        bench(tmp_path / "out", url=server.url, result=tmp_path / "a.txt", **GRID)
    assert not (tmp_path / "out").exists()


def test_the_key_is_sent_and_recorded_nowhere(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = GRID | {"isl": "4", "concurrency": "1", "requests": 1, "warmup": 0}
    with running(model, api_key="hidden-from-all") as locked:
        with pytest.raises(UsageError, match="does not accept the API key"):
            bench(tmp_path / "out", url=locked.url, **few)
        monkeypatch.setenv(KEY_VARIABLE, "hidden-from-all")
        bench(tmp_path / "out", url=locked.url, **few)
    for path in (tmp_path / "out").iterdir():
        assert "hidden-from-all" not in path.read_text()


def test_a_server_is_started_measured_and_ended(model: Path, tmp_path: Path) -> None:
    outcome = bench(tmp_path / "out", model=model, device="cpu", **GRID | {"isl": "8", "warmup": 0})
    assert (outcome.result.metrics["errors"], outcome.result.metrics["requests"]) == (0, 8)
    provenance = read_provenance(tmp_path / "out")
    assert provenance is not None
    assert [parent.kind for parent in provenance.parents] == ["model"]


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with (
        pytest.raises(ArtifactError, match=r"the server did not start: .*config\.json"),
        started_server(tmp_path / "empty", slots=1, device="cpu", key=None),
    ):
        pytest.fail("it has started")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": None}, "give either url"),
        ({"model": "m"}, "give either url"),
        ({"url": "localhost:8000"}, "no address"),
        ({"slots": 3}, "for a server that is started"),
        ({"requests": 2}, "keep no 3 clients busy"),
        ({"isl": "8,8"}, "named twice in isl"),
        ({"isl": "0"}, "greater than or equal to 1"),
        ({"osl": ""}, "osl"),
    ],
)
def test_settings_that_cannot_work(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ServeBenchConfig.model_validate({"url": "http://localhost:1", **GRID, **change})


def test_the_config_of_a_recipe_and_of_flags_are_one() -> None:
    by_flags = ServeBenchConfig.model_validate({"url": "http://h:1/v1", **GRID})
    by_recipe = ServeBenchConfig.model_validate(
        {"url": "http://h:1", **GRID, "isl": [8, 24], "osl": [6], "concurrency": [1, 3]}
    )
    assert by_flags == by_recipe
    assert json.loads(by_flags.model_dump_json())["isl"] == [8, 24]
