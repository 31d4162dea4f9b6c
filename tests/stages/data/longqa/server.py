"""A real HTTP server that speaks the chat-completions protocol and misbehaves as it is told."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

AT_ONCE = {"retry-after-ms": "1"}  # so that the client's waits cost no test time


@dataclass
class Answer:
    """`hang`: seconds before anything is sent. `promise`: bytes that the header says will follow, if not the body's."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    hang: float = 0.0
    promise: int | None = None


def completion(content: Any, finish_reason: str = "stop") -> Answer:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return Answer(
        json.dumps(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        ).encode()
    )


def error(status: int, message: str = "", **headers: str) -> Answer:
    body = json.dumps({"error": {"message": message, "type": "t", "code": "c"}}).encode()
    return Answer(body, status, {"content-type": "application/json", **AT_ONCE, **headers})


def excerpt_of(prompt: str) -> str:
    found = re.search(r"<excerpt>\n(.*)\n</excerpt>", prompt, re.DOTALL)
    assert found, prompt
    return found[1]


def good_pair(prompt: str) -> Answer:
    """A pair whose answer is the longest word of the excerpt."""
    word = max(re.findall(r"\w+", excerpt_of(prompt)), key=len)
    return completion(json.dumps({"question": "Which word is the longest?", "answer": word}))


Behaviour = Callable[[int, str], Answer]


class Endpoint:
    """`behave(number, prompt)` gives the answer to the request of this number, from 0; `requests` are the bodies."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.at_once = 0  # most requests that were open at the same time
        self.behave: Behaviour = lambda number, prompt: good_pair(prompt)
        self._open = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @contextmanager
    def running(self) -> Iterator["Endpoint"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def prompts(self) -> list[str]:
        return [request["messages"][-1]["content"] for request in self.requests]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with endpoint._lock:
                    number = len(endpoint.requests)
                    endpoint.requests.append(body)
                    endpoint.keys.add(self.headers["authorization"])
                    endpoint._open += 1
                    endpoint.at_once = max(endpoint.at_once, endpoint._open)
                try:
                    if self.path == "/v1/chat/completions":
                        answer = endpoint.behave(number, body["messages"][-1]["content"])
                    else:
                        answer = error(404, "no such page")
                    endpoint._ended.wait(answer.hang)
                finally:
                    with endpoint._lock:
                        endpoint._open -= 1
                self._send(answer)

            def _send(self, answer: Answer) -> None:
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(answer.promise or len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                    if answer.promise:
                        self.close_connection = True
                except OSError:  # the client has gone
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler
