"""Serve a model and ask it one question through the openai client."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.artifact.staging import write_text_atomic
from model.errors import ArtifactError, Nano2Error

_DRAIN_SECONDS = 60


@contextmanager
def serving(model: Path) -> Iterator[Mapping[str, Any]]:
    """`nano2 serve` on a free port, from its line that it is ready (`url`, `model`) to its orderly end."""
    command = [sys.executable, "-m", "nano2cli", "serve", "-m", str(model), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            told = json.loads(line) if line else {}
            if "url" not in told:  # an error, which it has told on stderr, too
                raise _failed(model, server.wait())
            yield told
        finally:
            server.terminate()
            code = server.wait(_DRAIN_SECONDS)
    if code:
        raise _failed(model, code)


def ask(model: Path, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The question and the likeliest answer, with its usage and seconds."""
    from openai import OpenAI

    with serving(model) as server:
        client = OpenAI(base_url=f"{server['url']}/v1", api_key="none", max_retries=0)
        started = time.monotonic()
        response = client.chat.completions.create(
            model=server["model"],
            messages=list(messages),  # type: ignore[arg-type]  # the client's types are one class a role
            temperature=0.0,
            max_tokens=96,
        )
        seconds = time.monotonic() - started
    return {
        "model": response.model,
        "messages": list(messages),
        "answer": response.choices[0].message.model_dump(exclude_none=True),
        "finish_reason": response.choices[0].finish_reason,
        "usage": response.usage.model_dump(exclude_none=True) if response.usage else {},
        "seconds": seconds,
    }


def question(chats: Path) -> list[dict[str, Any]]:
    """What the first line of a chat jsonl asks: its messages before the first answer."""
    with chats.open(encoding="utf-8") as file:
        messages: list[dict[str, Any]] = json.loads(file.readline())["messages"]
    roles = [message["role"] for message in messages]
    return messages[: roles.index("assistant")]


def _failed(model: Path, code: int) -> ArtifactError:
    return ArtifactError(
        f"the server ended with exit code {code}", where=str(model), remedy="its own message is above"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve a model and ask it one question.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--chats", type=Path, required=True, help="chat jsonl whose first line asks")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        told = ask(options.model, question(options.chats))
    except Nano2Error as error:
        print(f"error: {error}\n  next:  {error.remedy}", file=sys.stderr)
        return error.exit_code
    write_text_atomic(options.out, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    for message in told["messages"]:
        print(f"{message['role']}: {message['content']}")
    print(f"assistant: {json.dumps(told['answer'], ensure_ascii=False)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
