"""Math-Verify in a process of its own, which is ended when it takes too long.

sympy can be asked for what takes hours or all memory (9^9^9^9), and Math-Verify's own time limit is a signal, which works in
the main thread only. Here any thread may ask; idle workers are kept, one for each thread that asked at the same time.
"""

import atexit
import os
import threading

from evals.graders.line_process import LineProcess, NoAnswerError, serve
from model.errors import PlanRefusedError

SECONDS = 5.0
"""What one comparison may take."""
MEMORY = 2 << 30
"""Address space of a worker in bytes."""
ANSWERS = 2000
"""Comparisons after which a worker is replaced: sympy remembers what it has seen."""

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
        try:
            self.process = LineProcess("evals.graders.math_worker")
        except NoAnswerError as error:
            raise PlanRefusedError(
                "Math-Verify does not start",
                where="the math grader",
                remedy="pip install 'math-verify[antlr4_13_2]'",
            ) from error
        self.asked = 0

    def ask(self, question: list[str]) -> bool:
        self.asked += 1
        try:
            return bool(self.process.ask(question, SECONDS))
        except NoAnswerError as error:
            raise GaveUp(f"not decided, {error}") from error

    def end(self) -> None:
        self.process.end()


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

    def verdict(question: list[str]) -> bool:
        gold, answer = question
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = int(used.ru_utime + used.ru_stime)
        # Ends it also when nobody is left to.
        resource.setrlimit(resource.RLIMIT_CPU, (spent + int(SECONDS) + 2, resource.RLIM_INFINITY))
        try:
            return bool(math_verify.verify(parse(gold), parse(answer), timeout_seconds=None))
        except Exception:
            return False

    parse("1")
    serve(verdict)
