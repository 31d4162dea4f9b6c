"""Pairs from an OpenAI-compatible endpoint: real HTTP, the real client, and all the ways in which it can go wrong."""

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.errors import ArtifactError, InterruptedRunError, UsageError
from stages.common.stage import StageResult
from stages.data.longqa.kept_pairs import FILE
from tests.stages.common.data.helpers import write_jsonl
from tests.stages.data.longqa.conftest import Longqa, Rows, chronicle
from tests.stages.data.longqa.server import Answer, Endpoint, completion, error, excerpt_of, good_pair

CHUNKS = 23  # of the documents of `Asking`, all sampled


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Endpoint().running() as running:
        yield running


class Asking:
    """Runs the stage on two documents of `CHUNKS` chunks in all."""

    def __init__(self, longqa: Longqa, endpoint: Endpoint) -> None:
        self.longqa = longqa
        self.endpoint = endpoint
        self.data = write_jsonl(longqa.root / "d.jsonl", [chronicle(1, 7), chronicle(2, 8)])

    def run(self, **settings: Any) -> tuple[StageResult, Rows]:
        defaults = {
            "writer": "endpoint",
            "base_url": self.endpoint.url,
            "endpoint_model": "tester",
            "chunk_tokens": 128,
            "share": 1.0,
            "retries": 2,
            "timeout": 20,
        }
        return self.longqa.run(self.data, **{**defaults, **settings})

    @property
    def state(self) -> Path:
        return self.longqa.root / "out.run" / FILE


@pytest.fixture
def asking(longqa: Longqa, endpoint: Endpoint) -> Asking:
    return Asking(longqa, endpoint)


def test_each_chunk_is_asked_about_once_and_its_pair_stands_behind_its_document(asking: Asking) -> None:
    result, rows = asking.run()
    requests = asking.endpoint.requests
    assert result.metrics["sampled_chunks"] == result.metrics["pairs"] == len(requests) == CHUNKS
    assert len(set(asking.endpoint.prompts())) == CHUNKS
    assert asking.endpoint.keys == {"Bearer none"}
    assert {(request["model"], request["temperature"], request["max_tokens"]) for request in requests} == {
        ("tester", 0.7, 512)
    }
    excerpts = {excerpt_of(prompt) for prompt in asking.endpoint.prompts()}
    for row in rows:
        assert row["writer"] == "endpoint"
        assert {pair["kind"] for pair in row["pairs"]} == {"written"}
        for pair in row["pairs"]:
            assert f"\n\nQ: {pair['question']}\nA: {pair['answer']}\n" in row["text"]
        document = row["text"][: row["document_characters"]]
        assert sum(excerpt in document for excerpt in excerpts) == row["chunks"] == len(row["pairs"])
    assert not asking.state.parent.exists()


def test_concurrency_changes_nothing_but_how_many_are_asked_at_once(asking: Asking) -> None:
    asking.endpoint.behave = lambda number, prompt: Answer(**{**vars(good_pair(prompt)), "hang": 0.05})
    _, rows = asking.run(concurrency=6)
    assert asking.endpoint.at_once == 6
    asking.endpoint.at_once = 0
    _, again = asking.run(concurrency=1, name="again")
    assert asking.endpoint.at_once == 1
    assert rows == again


def test_the_api_key_comes_from_the_variable_that_is_named(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-this-server")
    monkeypatch.setenv("MY_KEY", "secret-123\n")
    asking.run(name="a")
    assert asking.endpoint.keys == {"Bearer none"}
    asking.endpoint.keys.clear()
    asking.run(name="b", api_key_env="MY_KEY")
    assert asking.endpoint.keys == {"Bearer secret-123"}
    written = [path for path in (asking.longqa.root / "b").rglob("*") if path.is_file()]
    assert not any(b"secret-123" in path.read_bytes() for path in written)


@pytest.mark.parametrize("value", [None, "", "  ", "sécret", "a\nb"])
def test_a_key_that_is_none_is_refused_before_anything_is_sent(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(UsageError, match="MY_KEY"):
        asking.run(api_key_env="MY_KEY")
    assert not asking.endpoint.requests


PASSING = {
    "429": lambda: error(429, "slow down"),
    "500": lambda: error(500, "oops"),
    "503": lambda: error(503),
    "408": lambda: error(408),
    "not JSON": lambda: completion("I would rather talk about the weather."),
    "empty": lambda: completion(""),
    "no content": lambda: completion(None),
    "half a pair": lambda: completion('{"question": "Who?"}'),
    "an invention": lambda: completion('{"question": "Who?", "answer": "Zarathustra"}'),
    "cut off": lambda: completion('{"question": "Wh', finish_reason="length"),
    "half an answer": lambda: Answer(b'{"id": "x", "cho', promise=5000),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_goes_wrong_for_a_while_is_asked_for_again(asking: Asking, name: str) -> None:
    seen: Counter[str] = Counter()

    def behave(number: int, prompt: str) -> Answer:
        seen[prompt] += 1
        fails = seen[prompt] <= (1 if name == "half an answer" else 2) and list(seen).index(prompt) in (0, 3)
        return PASSING[name]() if fails else good_pair(prompt)

    asking.endpoint.behave = behave
    result, _ = asking.run(max_documents=1)
    assert sorted(seen.values())[-3:] == ([1, 2, 2] if name == "half an answer" else [1, 3, 3])
    assert len(seen) == result.metrics["pairs"] == result.metrics["sampled_chunks"] > 10
    assert result.metrics["chunks_without_pair"] == 0


LASTING = {
    "no content": (lambda: completion(None), "the reply is empty"),
    "not JSON": (lambda: completion("no"), 'no JSON object with "question" and "answer"'),
    "an invention": (
        lambda: completion('{"question": "Who?", "answer": "Zarathustra"}'),
        "does not stand in the excerpt",
    ),
    "cut off": (lambda: completion("<think> so", finish_reason="length"), "cut off at --reply-tokens"),
    "too long": (lambda: completion("x" * 300_000), "far too long"),
    "429": (lambda: error(429, "quota is used up"), "answered 429 (quota is used up)"),
    "400": (lambda: error(400, "context length exceeded"), "answered 400 (context length exceeded)"),
    "500": (lambda: error(500), "answered 500"),
    "302": (lambda: Answer(b"", 302, {"location": "/elsewhere"}), "answered"),
    "html": (
        lambda: Answer(b"<html>hello</html>", headers={"content-type": "text/html"}),
        "no chat completion",
    ),
    "bare text": (lambda: Answer(b"hello"), "no chat completion"),
    "not UTF-8": (lambda: Answer(b'{"choices": "\xff\xfe"}'), "no chat completion"),
    "empty body": (lambda: Answer(b""), "no chat completion"),
    "empty object": (lambda: Answer(b"{}"), "no chat completion"),
    "a list": (lambda: Answer(b"[1, 2]"), "no chat completion"),
    "null": (lambda: Answer(b"null"), "no chat completion"),
    "no choices": (lambda: Answer(b'{"choices": []}'), "no chat completion"),
    "odd choices": (lambda: Answer(b'{"choices": [3, "x"]}'), "the reply is empty"),
    "odd content": (lambda: completion([{"type": "text", "text": "x"}]), "the reply is empty"),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_chunk_whose_answer_stays_bad_falls_out_and_is_counted(asking: Asking, name: str) -> None:
    bad, reason = LASTING[name]
    victim: list[str] = []

    def behave(number: int, prompt: str) -> Answer:
        if not victim:
            victim.append(prompt)
        answer = bad() if prompt == victim[0] else good_pair(prompt)
        answer.headers = {**answer.headers, "retry-after-ms": "1"}
        return answer

    asking.endpoint.behave = behave
    result, (row,) = asking.run(concurrency=1, retries=1, max_documents=1)
    assert result.metrics["chunks_without_pair"] == 1
    assert result.metrics["pairs"] == len(row["pairs"]) == row["chunks"] - 1
    assert [
        note for note in asking.longqa.reporter.warnings if "no pair for 1 chunk: " in note and reason in note
    ]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_all_would_meet_ends_the_run_at_once(asking: Asking, status: int) -> None:
    asking.endpoint.behave = lambda number, prompt: error(status, "the servers own words")
    with pytest.raises(UsageError, match="the servers own words") as raised:
        asking.run(concurrency=4)
    assert raised.value.exit_code == 2
    assert raised.value.where == asking.endpoint.url
    assert ("--endpoint-model" in raised.value.remedy) == (status == 404)
    assert ("--api-key-env" in raised.value.remedy) == (status != 404)
    assert len(asking.endpoint.requests) <= 8
    assert os.listdir(asking.longqa.root) == ["d.jsonl"]


def test_a_wrong_path_in_the_address_is_explained(asking: Asking) -> None:
    with pytest.raises(UsageError, match="or the address is wrong"):
        asking.run(base_url=asking.endpoint.url + "/v2")


def test_nobody_there_ends_the_run_after_a_few_tries(asking: Asking) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(
        ArtifactError, match=r"of the first \d chunks got no usable pair: no connection"
    ) as raised:
        asking.run(base_url=url, retries=0)
    assert raised.value.where == url
    assert "run the same command again" in raised.value.remedy


def test_a_server_that_never_answers_is_not_waited_for_forever(asking: Asking) -> None:
    asking.endpoint.behave = lambda number, prompt: Answer(b"", hang=60)
    with pytest.raises(ArtifactError, match=r"no answer within 0\.2 seconds"):
        asking.run(timeout=0.2, retries=0)


def test_too_many_failures_end_the_run_and_the_same_command_asks_only_for_the_rest(asking: Asking) -> None:
    asking.endpoint.behave = lambda number, prompt: completion("no") if number >= 12 else good_pair(prompt)
    with pytest.raises(ArtifactError, match="3 times") as raised:
        asking.run(retries=0, concurrency=2)
    assert raised.value.exit_code == 3
    assert not (asking.longqa.root / "out").exists()
    kept = len(asking.state.read_text().splitlines())
    assert kept == 12
    asking.endpoint.requests.clear()
    asking.endpoint.behave = lambda number, prompt: good_pair(prompt)
    result, rows = asking.run(retries=0, concurrency=2)
    assert len(asking.endpoint.requests) == CHUNKS - kept
    assert result.metrics["pairs"] == CHUNKS
    assert not asking.state.exists()
    assert rows == asking.run(name="at once")[1]


def test_the_share_that_may_fail_can_be_raised_on_the_way(asking: Asking) -> None:
    def behave(number: int, prompt: str) -> Answer:
        return completion("no") if len(prompt) % 2 else good_pair(prompt)

    asking.endpoint.behave = behave
    with pytest.raises(ArtifactError):
        asking.run(retries=0)
    odd = sum(len(prompt) % 2 for prompt in set(asking.endpoint.prompts()))
    assert odd > 2
    result, _ = asking.run(retries=0, max_failed_share=0.9)
    failed = result.metrics["chunks_without_pair"]
    assert isinstance(failed, int)
    assert 0.1 * CHUNKS < failed < 0.9 * CHUNKS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_every_answer_and_the_same_command_continues(
    asking: Asking, number: signal.Signals
) -> None:
    assert threading.current_thread() is threading.main_thread()

    def behave(request: int, prompt: str) -> Answer:
        if request == 9:
            os.kill(os.getpid(), number)
        answer = good_pair(prompt)
        answer.hang = 0.3 if request >= 8 else 0.0  # under way when the signal comes
        return answer

    asking.endpoint.behave = behave
    with pytest.raises(InterruptedRunError, match="pairs kept") as raised:
        asking.run(concurrency=4)
    assert raised.value.exit_code == 75
    kept = len(asking.state.read_text().splitlines())
    assert len(asking.endpoint.requests) - 1 <= kept <= len(asking.endpoint.requests) < CHUNKS
    asking.endpoint.requests.clear()
    asking.endpoint.behave = lambda number, prompt: good_pair(prompt)
    result, _ = asking.run(concurrency=4)
    assert len(asking.endpoint.requests) == CHUNKS - kept
    assert result.metrics["pairs"] == CHUNKS


def test_a_server_that_moved_is_no_other_run_but_another_model_is(asking: Asking) -> None:
    asking.endpoint.behave = lambda number, prompt: completion("no") if number >= 12 else good_pair(prompt)
    with pytest.raises(ArtifactError):
        asking.run(retries=0)
    with Endpoint().running() as other:
        with pytest.raises(UsageError, match="endpoint_model was 'tester' there"):
            asking.run(base_url=other.url, endpoint_model="another")
        asking.run(base_url=other.url)
        assert len(other.requests) == CHUNKS - 12


def test_damaged_state_costs_what_is_damaged(asking: Asking) -> None:
    asking.endpoint.behave = lambda number, prompt: completion("no") if number >= 12 else good_pair(prompt)
    with pytest.raises(ArtifactError):
        asking.run(retries=0)
    lines = asking.state.read_bytes().splitlines(keepends=True)
    asking.state.write_bytes(b"".join([lines[0], b"rubbish\n", *lines[2:11], lines[11][:40]]))
    asking.endpoint.requests.clear()
    asking.endpoint.behave = lambda number, prompt: good_pair(prompt)
    result, _ = asking.run()
    assert len(asking.endpoint.requests) == CHUNKS - 10
    assert result.metrics["pairs"] == CHUNKS
    assert any("2 kept pairs were damaged" in message for message in asking.longqa.reporter.warnings)


def test_only_as_many_documents_as_asked_for_are_paid_for(asking: Asking) -> None:
    result, rows = asking.run(max_documents=1)
    assert len(rows) == 1
    assert len(asking.endpoint.requests) == len(rows[0]["pairs"]) == result.metrics["pairs"] < CHUNKS


def test_nothing_of_the_prompt_is_lost_on_the_way(asking: Asking) -> None:
    odd = (
        chronicle(5, 8)
        + 'Zeile mit «Ünïcode», {braces}, "quotes", \\ and \u2028 and <excerpt>.\n'
        + chronicle(6, 8)
    )
    write_jsonl(asking.data, [odd])
    asking.run()
    excerpts = [excerpt_of(prompt) for prompt in asking.endpoint.prompts()]
    ordered = sorted(excerpts, key=odd.index)
    assert "".join(ordered) == odd
