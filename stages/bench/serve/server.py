"""The server that is measured: found at its address, or started."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from model.errors import ArtifactError, Nano2Error, PlanRefusedError, UsageError, first_line
from stages.bench.serve.config import KEY_VARIABLE

_SECONDS_TO_END = 60
_SECONDS_TO_ANSWER = 60
_FAILURES: dict[int, type[Nano2Error]] = {
    kind.exit_code: kind for kind in (UsageError, ArtifactError, PlanRefusedError)
}


@contextmanager
def started_server(model: Path, *, slots: int, device: str, key: str | None) -> Iterator[str]:
    """The URL of a `nano2 serve` on a free port, which is ended behind the block. Raises what it could not start for."""
    command = [sys.executable, "-m", "nano2cli", "serve", "-m", str(model), "--port", "0", "--json"]
    command += ["--slots", str(slots), "--device", device]
    environment = os.environ | ({KEY_VARIABLE: key} if key else {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            said = _parsed(process.stdout.readline())
            if said.get("event") != "ready":
                raise _not_started(process.wait(_SECONDS_TO_END), said)
            yield said["url"]
        finally:
            process.terminate()
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()


def _parsed(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _not_started(code: int, said: dict[str, Any]) -> Nano2Error:
    error = said.get("error") or {}
    return _FAILURES.get(code, Nano2Error)(
        f"the server did not start: {error.get('what', f'it ended with code {code}')}",
        where=error.get("where") or "nano2 serve",
        remedy=error.get("remedy") or "see what it has written above",
    )


def api_key(variable: str | None) -> str | None:
    """The key, or None where none is wanted. UsageError for a variable that was named and is not set."""
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable is not None and not key:
        raise UsageError(
            f"the environment variable {variable} is not set",
            where="api_key_env",
            remedy=f"put the server's API key into {variable}",
        )
    return key or None


async def served_model(client: httpx2.AsyncClient, url: str, longest: int) -> str:
    """The name of the model that is served. UsageError if no such server answers, or if it says that its model reads fewer
    than `longest` tokens."""
    try:
        response = await client.get("/v1/models", timeout=_SECONDS_TO_ANSWER)
    except httpx2.HTTPError as error:
        raise UsageError(
            f"no server answers ({first_line(error)})", where=url, remedy="start it, or correct --url"
        ) from error
    if response.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        raise UsageError(
            "the server does not accept the API key",
            where=url,
            remedy=f"put it into ${KEY_VARIABLE}, or name its variable with --api-key-env",
        )
    try:
        model = response.json()["data"][0]
        name, limit = str(model["id"]), int(model.get("max_model_len") or longest)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UsageError(
            f"GET /v1/models gives no model (status {response.status_code})",
            where=url,
            remedy="give the address of a server with OpenAI's API, without /v1",
        ) from error
    if limit < longest:
        raise UsageError(
            f"isl and osl are {longest} tokens together, and {name} reads {limit}",
            where=url,
            remedy="lower --isl or --osl",
        )
    return name
