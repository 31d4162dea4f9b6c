"""The program in the sandbox: a job on stdin, a JSON object a line on stdout. `evals.graders.code` starts it.

It divides in two. The child gets the answer's code; the parent gets the tests, which it reads after the child was made, and
calls the child's functions. So the code can neither see what is expected of it, nor end, fool or outlive what judges it:
to print, to exit or to redefine things in its own process changes nothing but its own answers.
"""

import ast
import builtins
import importlib
import json
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

from evals.graders.sandbox.confine import confine
from evals.graders.sandbox.wire import CALLING, EVERYTHING, Channel, Ended, Side, Stop


def main() -> None:
    """Read {"answer", "setup", "prefix", "entry_point", "cpu_seconds", "clock_seconds", "memory"}, then the list of tests,
    each with its length before it; write {"answer": how it went}, then {"passed", "error"} for each test."""
    job = _read_part()
    code_in, to_code = os.pipe()
    from_code, code_out = os.pipe()
    child = os.fork()
    random.seed(0)
    if child == 0:
        try:
            _leave_only(code_in, code_out)
            confine(cpu_seconds=job["cpu_seconds"], memory=job["memory"])
            _be_code(job, Channel(code_in, code_out))
        finally:
            os._exit(0)
    os.close(code_in)
    os.close(code_out)
    tests = _read_part()
    said = os.dup(1)
    _leave_only(said, from_code, to_code)
    confine(cpu_seconds=job["clock_seconds"], memory=job["memory"], may_end=child)
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, job["clock_seconds"], 1)
    try:
        for fact in _judged(job, tests, Channel(from_code, to_code), child):
            os.write(said, json.dumps(fact).encode() + b"\n")
    except Stop:  # what was not said was not reached in time
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(OSError):  # it has ended, and was waited for
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _stop(*_: Any) -> None:
    raise Stop


def part(content: Any) -> bytes:
    """One part of a job, as `main` reads it."""
    data = json.dumps(content).encode()
    return struct.pack("I", len(data)) + data


def _read_part() -> Any:
    def exactly(length: int) -> bytes:
        data = b""
        while len(data) < length:
            data += os.read(0, length - len(data)) or sys.exit("the job ends too early")
        return data

    return json.loads(exactly(struct.unpack("I", exactly(4))[0]))


def _leave_only(*descriptors: int) -> None:
    """Close all files but these; standard input is empty and what is printed goes nowhere."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    for descriptor in range(3, 256):
        if descriptor not in descriptors:
            try:
                os.close(descriptor)
            except OSError:
                continue


def _be_code(job: dict[str, Any], channel: Channel) -> None:
    sys.path.pop(0)  # the way to this package
    sys.argv[:] = ["answer"]
    module = sys.modules["answer"] = ModuleType("answer")
    side = Side(channel, EVERYTHING)
    try:
        program = compile(_program(job), "answer", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        channel.send({"answer": f"malformed: {type(error).__name__}: {str(error)[:200]}"})
        return
    try:
        exec(program, module.__dict__)
    except BaseException as error:
        channel.send({"answer": f"raised {type(error).__name__}: {str(error)[:200]}"})
        return
    channel.send({"answer": "ok"})
    names = channel.receive()
    channel.send({name: _describe(side, vars(module)[name]) for name in names if name in vars(module)})
    side.serve()


def _program(job: dict[str, Any]) -> str:
    """The answer behind the setup; where it continues a function instead of defining it, behind its beginning, too."""
    answer = job["answer"]
    if job["prefix"] and not _defines(answer, job["entry_point"]):
        answer = f"{job['prefix']}    {answer}"
    return f"{job['setup']}\n{answer}\n"


def _defines(code: str, name: str) -> bool:
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(
        getattr(node, "name", None) == name
        or (
            isinstance(node, ast.Assign)
            and any(getattr(target, "id", None) == name for target in node.targets)
        )
        for node in body
    )


def _describe(side: Side, value: Any) -> dict[str, Any]:
    if isinstance(value, ModuleType):
        return {"module": value.__name__}
    if isinstance(value, type) and issubclass(value, Exception):
        return {
            "error": [value.__name__, next(b.__name__ for b in value.__mro__ if b.__module__ == "builtins")]
        }
    return {"value": side.encode(value)}


def _judged(job: dict[str, Any], tests: list[str], channel: Channel, child: int) -> Iterator[dict[str, Any]]:
    side = Side(channel, CALLING)
    try:
        went = channel.receive()["answer"]
        yield {"answer": went}
        if went != "ok":
            return
        names = _names(tests, job["entry_point"])
        channel.send(names)
        scope = {"__name__": "tests", **_imports(job["setup"]), **_offered(side, channel.receive(), names)}
    except (Ended, KeyError, TypeError, ValueError, Stop) as error:
        yield {"answer": _how_it_ended(child, error)}
        return
    if job["entry_point"] in scope:
        scope["candidate"] = scope[job["entry_point"]]
    for test in tests:
        try:
            exec(compile(test, "test", "exec"), scope)
        except (Ended, Stop) as error:
            yield {"passed": False, "error": _how_it_ended(child, error)}
            return
        except BaseException as error:
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            yield {"passed": False, "error": text[:200]}
        else:
            yield {"passed": True, "error": ""}


def _names(tests: Sequence[str], entry_point: str | None) -> list[str]:
    """The names in the tests that the code may fill. A built-in function is Python's own, unless it is what is asked for."""
    used = {node.id for test in tests for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)}
    own = {name for name in used if not hasattr(builtins, name)}
    return sorted(own | ({entry_point} if entry_point else set()))


def _imports(setup: str) -> dict[str, Any]:
    """What the import statements of the setup bind, imported here."""
    scope: dict[str, Any] = {}
    for node in ast.parse(setup).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            try:
                exec(compile(ast.Module([node], []), "setup", "exec"), scope)
            except Exception:  # the code may still do without
                continue
    scope.pop("__builtins__", None)
    return scope


def _offered(side: Side, described: Any, names: Sequence[str]) -> dict[str, Any]:
    """What stands in the tests for the names of the code: data, its functions from afar, and modules of the library."""
    scope: dict[str, Any] = {}
    for name in names:
        ((kind, content),) = described.get(name, {"missing": None}).items()
        if kind == "module" and str(content).partition(".")[0] in sys.stdlib_module_names:
            scope[name] = importlib.import_module(content)
        elif kind == "error":
            scope[name] = side.error_class(*map(str, content))
        elif kind == "value":
            scope[name] = side.decode(content)
    return scope


def _how_it_ended(child: int, error: BaseException) -> str:
    """Why the code's process says nothing more, or nothing that can be understood."""
    if isinstance(error, Stop):
        return "out of time"
    for _ in range(100):  # a pipe is closed a little before its process has ended
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.01)
    else:
        return f"the code's process says what cannot be read ({error})"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        out_of_time = number in (signal.SIGXCPU, signal.SIGKILL)
        return "out of processor time" if out_of_time else f"ended by {signal.Signals(number).name}"
    return "the code ended its process"
