"""`nano2` in a process of its own that is forked from the tests', whose libraries are imported: for tests that kill, stop or
look at a process, and not at how it starts. Importing them anew would take seconds each time."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NoReturn

from nano2cli.app import main
from nano2cli.registry import find_command
from stages.common.stage import load_target


class Forked:
    """As far as it goes, a `subprocess.Popen` of `nano2 ARGUMENTS` with text in pipes."""

    def __init__(
        self, *arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.stdout, self.stderr = TemporaryFile("w+"), TemporaryFile("w+")  # noqa: SIM115
        self.returncode: int | None = None
        _import_what_runs(list(map(str, arguments)))
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(list(map(str, arguments)), cwd, environment or {})

    def _run(self, arguments: list[str], cwd: Path | None, environment: Mapping[str, str]) -> NoReturn:
        """The child's life. Whatever happens, it never returns into the tests."""
        code: object = 1
        try:
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(getattr(self, name).fileno(), number)
                setattr(sys, name, os.fdopen(number, "w", errors="replace"))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
                signal.signal(
                    number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                )
            os.environ.update(environment)
            if cwd is not None:
                os.chdir(cwd)
            sys.argv = ["nano2", *arguments]
            main(arguments)
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"nano2 has not ended within {timeout} seconds")
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait, and all that it wrote."""
        self.wait(timeout)
        return _content(self.stdout), _content(self.stderr)


def _import_what_runs(arguments: list[str]) -> None:
    """Commands are imported when they are called: here, so that each process finds it done."""
    command = find_command(arguments[0]) or find_command(" ".join(arguments[:2]))
    assert command is not None
    stage = load_target(command.target)
    for target in filter(None, (stage.run, stage.plan)):
        load_target(target)


def _content(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()
