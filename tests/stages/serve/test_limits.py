"""What a server meets on an open port: wrong keys, bodies too large or no JSON, clients that leave or do not read."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch

from model.loading import load
from tests.stages.serve.running import PATIENCE, Running, running, until

CHAT = {"messages": [{"role": "user", "content": "Once"}], "max_tokens": 4, "temperature": 0}
LONG: dict[str, Any] = {"prompt": "Once", "max_tokens": 900_000, "temperature": 0}
"""Takes longer than any test waits, so that only being cancelled ends it."""


@pytest.fixture(scope="module")
def guarded(model: Path) -> Iterator[Running]:
    settings = {"slots": 2, "max_queue": 2, "max_body": "20kB", "max_length": "1M", "api_key": "sesame"}
    with running(model, name="tiny", request_seconds=1000, **settings) as serving:
        yield serving


def post(
    server: Running, content: Any, path: str = "/v1/chat/completions", **headers: str
) -> httpx2.Response:
    headers = {"authorization": "Bearer sesame", "content-type": "application/json", **headers}
    return httpx2.post(server.url + path, content=content, headers=headers, timeout=PATIENCE)


def refused(
    response: httpx2.Response, status: int, code: str | None, kind: str = "invalid_request_error"
) -> str:
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (status, code, kind)
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer sesam", "Basic sesame", "Bearer sésame"])
def test_a_wrong_key_is_refused(guarded: Running, key: str) -> None:
    raw = key.encode("latin-1")
    response = httpx2.post(
        f"{guarded.url}/v1/chat/completions", json=CHAT, headers={b"authorization": raw}, timeout=PATIENCE
    )
    refused(response, 401, "invalid_api_key")
    assert httpx2.get(f"{guarded.url}/v1/models", headers={b"authorization": raw}).status_code == 401
    with pytest.raises(openai.AuthenticationError):
        guarded.client(api_key="sesam").models.list()


def test_the_right_key_is_not_needed_for_health(guarded: Running) -> None:
    assert httpx2.get(f"{guarded.url}/health").json()["status"] == "ok"
    assert post(guarded, json.dumps(CHAT)).status_code == 200


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "invalid_json"),
        (b"", None),
        (b"[]", None),
        (b"null", None),
        (b'"text"', None),
        (b"\xff\xfe", "invalid_json"),
        (b'{"messages": NaN}', None),
        (b'{"messages": ' + b"[" * 9000 + b"]" * 9000 + b"}", None),
        (json.dumps({**CHAT, "temperature": float("nan")}).encode(), None),
        (json.dumps({**CHAT, "messages": [{"role": "user", "content": "\ud800"}]}).encode(), None),
        (json.dumps({"prompt": "\ud800"}).encode(), None),
        (json.dumps({**CHAT, "stop": "\ud800"}).encode(), None),
        (json.dumps({**CHAT, "seed": 10**30}).encode(), None),
    ],
)
def test_bodies_that_cannot_be_read(guarded: Running, content: bytes, code: str | None) -> None:
    path = "/v1/completions" if b"prompt" in content else "/v1/chat/completions"
    refused(post(guarded, content, path), 400, code)


def test_other_content_types_paths_and_methods(guarded: Running) -> None:
    refused(post(guarded, json.dumps(CHAT), **{"content-type": "text/plain"}), 400, None)
    refused(post(guarded, "{}", "/v1/nothing"), 404, "not_found")
    refused(
        httpx2.get(f"{guarded.url}/v1/completions", headers={"authorization": "Bearer sesame"}), 405, None
    )


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [30_000, 100_000, 3_000_000])
def test_a_body_that_is_too_large(guarded: Running, size: int, chunked: bool) -> None:
    body = json.dumps({**CHAT, "user": "x" * size}).encode()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    try:
        message = refused(post(guarded, pieces() if chunked else body), 413, "body_too_large")
    except httpx2.TransportError:  # far too large to be read to its end: the connection may be closed on it
        assert size > 8 * 20_000
    else:
        assert "20000 bytes" in message
    assert post(guarded, json.dumps(CHAT)).status_code == 200


def test_a_full_queue_is_said(guarded: Running) -> None:
    client = guarded.client(api_key="sesame")
    open_streams = [client.completions.create(model="tiny", stream=True, n=2, **LONG)]
    waiting = threading.Thread(target=lambda: post(guarded, json.dumps({**CHAT, "n": 2})))
    waiting.start()
    guarded.wait_for(running=2, waiting=2)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="tiny", **CHAT)
    assert (caught.value.code, caught.value.type) == ("queue_full", "rate_limit_error")
    for stream in open_streams:
        stream.close()
    waiting.join(PATIENCE)
    guarded.wait_for(running=0, waiting=0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_row(guarded: Running, stream: bool) -> None:
    body = json.dumps({**LONG, "stream": stream}).encode()
    with connection(guarded, body):
        guarded.wait_for(running=1)
    guarded.wait_for(running=0, waiting=0)


def test_a_client_that_does_not_read_blocks_nobody(guarded: Running) -> None:
    body = json.dumps({**LONG, "stream": True, "logprobs": 20}).encode()
    with connection(guarded, body):
        guarded.wait_for(running=1)
        for _ in range(3):
            assert post(guarded, json.dumps(CHAT)).status_code == 200
    guarded.wait_for(running=0, waiting=0)


def connection(server: Running, body: bytes) -> socket.socket:
    """A request whose answer is not read."""
    host, port = server.url.removeprefix("http://").split(":")
    raw = socket.create_connection((host, int(port)))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\nContent-Length: {len(body)}\r\n"
    raw.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    return raw


def test_an_answer_that_takes_too_long(model: Path) -> None:
    with running(model, name="tiny", slots=1, max_length="1M", request_seconds=1) as server:
        with pytest.raises(openai.InternalServerError) as caught:
            server.client().completions.create(model="tiny", **LONG)
        assert (caught.value.status_code, caught.value.code, caught.value.type) == (
            504,
            "timeout",
            "server_error",
        )
        with pytest.raises(openai.APIError, match="took too long"):
            list(server.client().completions.create(model="tiny", stream=True, **LONG))
        with connection(server, b"x" * 10) as raw:  # a body that does not come
            raw.recv(1)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(head)
            assert b" 408 " in raw.recv(100)
        server.wait_for(running=0, waiting=0)


def test_weights_that_are_not_finite_are_one_error(model: Path) -> None:
    lm = load(model)
    with running(model, lm, name="tiny", slots=2) as server:
        client = server.client()
        assert client.completions.create(model="tiny", prompt="Once", max_tokens=3).choices[0].text
        with torch.no_grad():
            lm.get_parameter("backbone.layers.1.mixer.down_proj.weight").fill_(torch.nan)
        for _ in range(2):
            with pytest.raises(openai.InternalServerError) as caught:
                client.completions.create(model="tiny", prompt="Once", max_tokens=3)
            assert (caught.value.code, caught.value.type) == ("not_finite", "server_error")
            assert "layer 1 (MLP)" in caught.value.message
        until(lambda: server.health()["running"] == 0)
