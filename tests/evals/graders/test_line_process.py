"""A child process that answers lines: in time, not in time, and when nobody waits for it any more."""

import os
import signal
import subprocess
import sys
import time

import pytest

from evals.graders.line_process import LineProcess, NoAnswerError, serve


def main() -> None:
    serve(lambda question: _spin() if question == "spin" else question)


def _spin() -> None:
    while True:
        pass


def test_an_answer_that_does_not_come_is_said_so() -> None:
    process = LineProcess(__name__)
    assert process.ask({"a": 1}, 10) == {"a": 1}
    with pytest.raises(NoAnswerError, match="not done within"):
        process.ask("spin", 0.2)
    process.end()


def test_a_child_that_hangs_ends_though_its_parent_has_died() -> None:
    code = (
        f"import os; from {__name__} import LineProcess; process = LineProcess({__name__!r})\n"
        "try: process.ask('spin', 0.2)\n"
        "finally: print(process.pid, flush=True); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    child = int(done.stdout)
    for _ in range(600):
        if not _runs(child):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child is still running")


def _runs(pid: int) -> bool:
    status = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(status.stdout.strip()) and not status.stdout.startswith("Z")
