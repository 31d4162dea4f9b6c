"""Grades an answer by running its Python against tests, in a sandbox (evals/graders/sandbox; docs/graders.md)."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from evals.graders.grade import Grade
from evals.graders.sandbox import confine
from evals.graders.sandbox.runner import part
from evals.graders.spec import GraderSpec
from model.chat.events import ParsedMessage
from model.errors import PlanRefusedError

MEMORY = 1 << 30
"""Address space of each of the two processes in bytes."""
WAITING = 3
"""Time on the clock as a multiple of processor time: code that sleeps, or a busy machine."""

START = 30
"""Seconds on the clock that a busy machine may take to start the sandbox."""

_ROOT = Path(__file__).parent.parent.parent
_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


class Spec(GraderSpec):
    """tests: statements, each list entry a test of its own. setup: code put before the answer; what it imports is there for
    the tests, too. entry_point: the function that is asked for; as `candidate` in the tests, too. prefix: its beginning, put
    before an answer that does not define it and continues it instead. seconds: processor time."""

    name: Literal["code"]
    tests: list[str] = Field(min_length=1)
    setup: str = ""
    entry_point: str | None = None
    prefix: str = ""
    seconds: int = Field(5, ge=1, le=60)

    @model_validator(mode="after")
    def _runs(self) -> Self:
        if self.prefix and not self.entry_point:
            raise ValueError("prefix: entry_point must say which function it begins")
        if self.entry_point is not None and not self.entry_point.isidentifier():
            raise ValueError(f"entry_point: {self.entry_point!r} is no name")
        for where, text in [
            ("setup", self.setup),
            *((f"tests.{i}", test) for i, test in enumerate(self.tests)),
        ]:
            try:
                compile(text, where, "exec")
            except (SyntaxError, ValueError) as error:
                raise ValueError(f"{where}: no Python ({error})") from error
        return self


def judge(spec: Spec, response: ParsedMessage) -> Grade:
    """score: 1 if all tests pass. parts: `format` (there is code, and it is Python), `tests` (the share that passes).

    Raises PlanRefusedError on a machine that cannot confine a process.
    """
    answer = code_of(response.content)
    if not answer.strip():
        return Grade(0.0, {"format": 0.0, "tests": 0.0}, "no code")
    first, *results = _run(spec, answer)
    passed = sum(result["passed"] for result in results)
    missed = next((result["error"] for result in results if not result["passed"]), "")
    if len(results) < len(spec.tests):
        missed = missed or "out of time"
    if first != {"answer": "ok"}:
        detail = first["answer"]
    else:
        detail = f"{passed} of {len(spec.tests)} tests passed" + (f"; {missed}" if missed else "")
    return Grade(
        score=float(passed == len(spec.tests)),
        parts={
            "format": float(not first["answer"].startswith("malformed")),
            "tests": passed / len(spec.tests),
        },
        detail=detail,
    )


def code_of(text: str) -> str:
    """The last block of a text that is fenced as Python, else the last fenced block, else the text."""
    blocks = _FENCE.findall(text)
    python = [code for language, code in blocks if language.lower() in ("python", "python3", "py")]
    return (python or [code for _, code in blocks] or [text])[-1]


def _run(spec: Spec, answer: str) -> list[dict[str, Any]]:
    """What the runner says: how the answer went, and each test's result until the end of the tests or of the time."""
    if not confine.available():
        raise PlanRefusedError(
            "code cannot be confined here, and is not run",
            where="the code grader",
            remedy="use Linux on x86-64 or ARM64, with seccomp",
        )
    job = {
        **spec.model_dump(include={"setup", "entry_point", "prefix"}),
        "answer": answer,
        "cpu_seconds": spec.seconds,
        "clock_seconds": WAITING * spec.seconds,
        "memory": MEMORY,
    }
    start = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from evals.graders.sandbox import runner; runner.main()"
    process = subprocess.Popen(
        [sys.executable, "-SsP", "-X", "utf8", "-c", start],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(part(job) + part(spec.tests), timeout=WAITING * spec.seconds + START)
    except subprocess.TimeoutExpired:  # tests that catch the end of their time
        _end(process)
        output, _ = process.communicate()
    finally:
        _end(process)
        process.wait()
    lines = output.splitlines(keepends=True)
    said = [json.loads(line) for line in lines if line.endswith(b"\n")]
    if not said and process.returncode not in (0, -signal.SIGKILL):
        raise PlanRefusedError(
            "code could not be confined here, and was not run",
            where="the code grader",
            remedy="nano2 doctor says what the machine lacks",
        )
    return said or [{"answer": "out of time"}]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of both processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
