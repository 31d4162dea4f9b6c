"""Math-Verify in a process of its own, which is ended when it takes too long.

sympy can be asked for what takes hours or all memory (9^9^9^9), and Math-Verify's own time limit is a signal, which works in
the main thread only. Here any thread may ask; idle workers are kept, one for each thread that asked at the same time.
"""

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path

from model.errors import PlanRefusedError

SECONDS = 5.0
"""What one comparison may take."""
MEMORY = 2 << 30
"""Address space of a worker in bytes."""
ANSWERS = 2000
"""Comparisons after which a worker is replaced: sympy remembers what it has seen."""
_START_SECONDS = 120.0

_ROOT = Path(__file__).parent.parent.parent
_idle: list["_Worker"] = []
_lock = threading.Lock()


class GaveUp(Exception):
    """A comparison took too long or too much memory."""


def verify(gold: str, answer: str) -> bool:
    """Whether Math-Verify finds two LaTeX expressions equal. Raises GaveUp."""
    with _lock:
        worker = _idle.pop() if _idle else None
    worker = worker or _Worker()
    try:
        verdict = worker.ask([gold, answer])
    except BaseException:
        worker.end()
        raise
    if worker.asked < ANSWERS:
        with _lock:
            _idle.append(worker)
    else:
        worker.end()
    return verdict


class _Worker:
    def __init__(self) -> None:
        code = (
            f"import sys; sys.path.insert(0, {str(_ROOT)!r}); import evals.graders.math_worker as w; w.main()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt of the terminal is for the parent
        )
        self.asked = 0
        try:
            self._line(_START_SECONDS)
        except GaveUp as error:
            self.end()
            raise PlanRefusedError(
                "Math-Verify does not start",
                where="the math grader",
                remedy="pip install 'math-verify[antlr4_13_2]'",
            ) from error

    def ask(self, question: list[str]) -> bool:
        self.asked += 1
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise GaveUp("the comparison failed") from error
        return bool(json.loads(self._line(SECONDS)))

    def _line(self, seconds: float) -> bytes:
        assert self.process.stdout is not None
        deadline, line = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise GaveUp(f"not decided within {seconds:g} s")
                piece = os.read(self.process.stdout.fileno(), 65536)
                if not piece:
                    raise GaveUp("not decided within the memory allowed")
                line += piece
        return line

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _end_all() -> None:
    while _idle:
        _idle.pop().end()


def _forget() -> None:
    """A forked process has no right to its parent's workers."""
    global _lock
    _idle.clear()
    _lock = threading.Lock()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget)


def main() -> None:
    """The worker: a question a line, [gold, answer], and a verdict a line."""
    import logging
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable()
    import math_verify

    def parse(expression: str) -> list[object]:
        parsed: list[object] = math_verify.parse(f"${expression}$", parsing_timeout=None)
        return parsed

    parse("1")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = int(used.ru_utime + used.ru_stime)
        # Ends it also when nobody is left to.
        resource.setrlimit(resource.RLIMIT_CPU, (spent + int(SECONDS) + 2, resource.RLIM_INFINITY))
        try:
            verdict = bool(math_verify.verify(parse(gold), parse(answer), timeout_seconds=None))
        except Exception:
            verdict = False
        print(json.dumps(verdict), file=answers, flush=True)
