"""A child process that answers a line of JSON with a line of JSON, and is ended when it takes too long.

What hangs in a regular expression, in sympy or in a sandbox cannot be stopped from within its own process.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_START_SECONDS = 120.0
_ROOT = Path(__file__).parent.parent.parent


class NoAnswerError(Exception):
    """The process did not answer; the text says why. It is of no more use."""


class LineProcess:
    """Runs `main()` of a module, which calls `serve`. NoAnswerError if it does not come to that."""

    def __init__(self, module: str) -> None:
        code = (
            f"import sys; sys.path.insert(0, {str(_ROOT)!r}); import importlib; "
            f"importlib.import_module({module!r}).main()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt of the terminal is for the parent
        )
        try:
            self._line(_START_SECONDS)
        except NoAnswerError:
            self.end()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: Any, seconds: float) -> Any:
        """The answer, within so many seconds. NoAnswerError if none comes."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([seconds, question]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise NoAnswerError("the process died") from error
        return json.loads(self._line(seconds))

    def end(self) -> None:
        """At once, with all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()

    def _line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        deadline, line = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise NoAnswerError(f"not done within {seconds:g} seconds")
                piece = os.read(self._process.stdout.fileno(), 65536)
                if not piece:
                    raise NoAnswerError("the process died")
                line += piece
        return line


def serve(answer: Callable[[Any], Any]) -> None:
    """The child's side: say that it is ready, then answer each line. What else is printed goes to stderr.

    The kernel ends it where an answer takes twice its time of the CPU: a parent that was killed can do so no more.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        seconds, question = json.loads(line)
        signal.setitimer(signal.ITIMER_VIRTUAL, 2 * seconds + 1)
        print(json.dumps(answer(question)), file=answers, flush=True)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
