"""Code that is right, code that is wrong, and code that would do harm or cheat: what it can reach, and what it leaves."""

import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from evals.graders.code import code_of
from evals.graders.grade import Grade, grade_text, validate_spec
from evals.graders.sandbox import confine
from model.errors import ArtifactError, PlanRefusedError

pytestmark = pytest.mark.skipif(not confine.available(), reason="needs Linux with seccomp")
PLAIN = """None
True
2**70
-0.0
float('inf')
'\\ud800'
b'\\x00'
(1, [2.0])
{1, 2}
frozenset({1})
{(1, 2): {'a': None}}
3j
range(2, 9, 3)
int
len
bytearray(b'a')
__import__('decimal').Decimal('1.50')
__import__('fractions').Fraction(1, 3)
__import__('datetime').date(2024, 2, 29)
__import__('datetime').datetime(2024, 1, 2, 3)
__import__('datetime').timedelta(1, 2, 3)
__import__('collections').deque([1])"""
WITHOUT_LANDLOCK = confine.landlock_version() == 0


def run(code: str, *tests: str, **more: Any) -> Grade:
    return grade_text({"name": "code", "tests": list(tests) or ["assert f(1) == 2"], **more}, code)


def value(code: str, **more: Any) -> str:
    """What the code's f(1) gives, told by the message of a test that fails."""
    return run(code, "raise RuntimeError(repr(f(1)))", **more).detail.partition("RuntimeError: ")[2]


class TestWhatIsRun:
    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("```python\na\n```\nor\n```py\nb\n```\n```\nc\n```", "b\n"),
            ("```\na\n```\n```sh\nb\n```", "b\n"),
            ("text\n  ```python3\na\n", "a\n"),
            ("a = '```'", "a = '```'"),
            ("", ""),
        ],
    )
    def test_the_last_block_of_python(self, text: str, code: str) -> None:
        assert code_of(text) == code

    def test_parts(self) -> None:
        right = "```python\ndef f(x):\n    return x + 1\n```"
        assert run(right, "assert f(1) == 2", "assert f(2) == 3") == Grade(
            1.0, {"format": 1.0, "tests": 1.0}, "2 of 2 tests passed"
        )
        assert run(right, "assert f(1) == 2", "assert f(1) == 3, 'not 3'", "assert f(2) == 3") == Grade(
            0.0, {"format": 1.0, "tests": 2 / 3}, "2 of 3 tests passed; AssertionError: not 3"
        )
        malformed = run("def f(x) return x")
        assert (malformed.score, malformed.parts) == (0.0, {"format": 0.0, "tests": 0.0})
        assert malformed.detail.startswith("malformed: SyntaxError")
        assert run("").parts["format"] == 0.0
        assert run("1/0") == Grade(
            0.0, {"format": 1.0, "tests": 0.0}, "raised ZeroDivisionError: division by zero"
        )
        assert run("x = 1").detail == "0 of 1 tests passed; NameError: name 'f' is not defined"

    def test_setup_prefix_and_entry_point(self) -> None:
        more = {
            "setup": "from math import pi",
            "prefix": 'def f(x):\n    """Say."""\n',
            "entry_point": "f",
        }
        tests = ["def check(candidate):\n    assert candidate(1) == pi", "check(f)", "check(candidate)"]
        assert (
            run("return x * pi", *tests, **more).score == 1.0
        )  # the parser of a message strips the indentation
        assert run("    y = x\n    return y * pi\n", *tests, **more).score == 1.0
        assert run("def f(x):\n    return x * pi", *tests, **more).score == 1.0
        assert run("f = lambda x: x * pi", *tests, **more).score == 1.0
        assert run("return x", *tests, **more).score == 0.0

    def test_a_builtin_is_shadowed_only_if_it_is_asked_for(self) -> None:
        code = "def sum(a, b):\n    return a + b\ndef abs(x):\n    return 0"
        assert run(code, "assert sum(1, 2) == 3", entry_point="sum").score == 1.0
        assert run(code, "assert abs(-1) == 1").score == 1.0

    def test_nothing_is_left_of_one_run_in_the_next(self) -> None:
        assert run("import json; json.left = 1\ndef f(x): return 2").score == 1.0
        assert value("import json\ndef f(x): return hasattr(json, 'left')") == "False"

    def test_the_same_every_time(self) -> None:
        code = "import random\ndef f(x): return [random.random(), list({'a', 'b', 'c', 'd'})]"
        assert value(code) == value(code)


class TestValuesBetweenTheProcesses:
    @pytest.mark.parametrize(
        "expression",
        PLAIN.split("\n"),
    )
    def test_plain_values_keep_their_types(self, expression: str) -> None:
        test = f"assert type(f({expression})) is type({expression}) and f({expression}) == {expression}"
        assert run("def f(x): return x", test).detail == "1 of 1 tests passed"

    def test_others_come_as_what_they_are_made_of(self) -> None:
        code = (
            "import collections, enum\nP = collections.namedtuple('P', 'x y')\n"
            "class Colour(enum.IntEnum): RED = 1\nclass S(str): pass\n"
            "def f(x): return [P(1, 2), collections.Counter('aab'), Colour.RED, S('s'), {1: 2}.keys(), {1: 2}.items()]"
        )
        assert value(code) == "[(1, 2), {'a': 2, 'b': 1}, 1, 's', {1}, [(1, 2)]]"

    def test_objects_functions_and_generators_are_used_from_afar(self) -> None:
        code = """
class Node:
    def __init__(self, value): self.value, self.next = value, None
    def __eq__(self, other): return self.value == other.value
    def __add__(self, other): return Node(self.value + other.value)
    def __len__(self): return 7
    def __lt__(self, other): return self.value < other.value
    def __getitem__(self, key): return key * 2
    def __contains__(self, key): return key == 3
    def __str__(self): return "node"
def total(node): return node.value + (total(node.next) if node.next else 0)
def evens():
    n = 0
    while True:
        yield n
        n += 2
def adder(n): return lambda x: x + n
def twice(function, x): return function(function(x))
class Bad(ValueError): pass
def fail(): raise Bad("no")
"""
        tests = [
            "a = Node(1); a.next = Node(2); assert total(a) == 3 and a.value == 1 and a.next.value == 2",
            "assert Node(1) == Node(1) and Node(1) != Node(2) and (Node(1) + Node(2)).value == 3",
            "assert len(Node(1)) == 7 and Node(1) < Node(2) and Node(1)[4] == 8 and str(Node(1)) == 'node'",
            "assert 3 in Node(1) and 4 not in Node(1)",
            "g = evens(); assert [next(g), next(g)] == [0, 2]",
            "from itertools import islice\nassert list(islice(evens(), 3)) == [0, 2, 4]",
            "assert adder(2)(3) == 5 and twice(lambda x: x * 3, 2) == 18 and twice(str.upper, 'a') == 'A'",
            "try:\n    fail()\nexcept Bad as error:\n    assert str(error) == 'no'\nelse:\n    assert False",
            "try:\n    fail()\nexcept ValueError:\n    pass",
            "try:\n    next(iter([]))\nexcept StopIteration:\n    pass",
        ]
        assert run(code, *tests).detail == f"{len(tests)} of {len(tests)} tests passed"

    def test_arguments_that_the_code_changes_are_changed(self) -> None:
        code = "def f(a, b, c): a.sort(); b.update(x=1); c.add(5); a.append(9)"
        test = "a, b, c = [3, 1], {}, {4}\nf(a, b, c)\nassert (a, b, c) == ([1, 3, 9], {'x': 1}, {4, 5})"
        assert run(code, test).score == 1.0

    def test_modules_are_the_tests_own(self) -> None:
        code = "import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return 5"
        assert run(code, "assert math.isclose(f(1), 2)").score == 0.0


CHEATS = {
    "exit": "import sys; sys.exit(0)",
    "hard exit": "import os; os._exit(0)",
    "exit in the call": "def f(x):\n    import os; os._exit(0)",
    "exit by exception": "def f(x): raise SystemExit(0)",
    "prints what a judge might": 'print(\'{"passed": true, "error": ""}\')\ndef f(x): print("PASS")',
    "writes to every file": "import os\nfor fd in range(64):\n    try: os.write(fd, b'{\"passed\": true}\\n' * 9)\n"
    "    except OSError: pass\ndef f(x): return 3",
    "equal to all": "class A(int):\n    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n"
    "    __hash__ = int.__hash__\ndef f(x): return A(3)",
    "an object equal to all": "class A:\n    def __eq__(s, o): return True\n    def __bool__(s): return True\n"
    "def f(x): return A()",
    "no assertions": "import builtins\nbuiltins.AssertionError = type('E', (BaseException,), {})\ndef f(x): return 3",
    "other builtins": "import builtins\nbuiltins.all = builtins.any = builtins.abs = lambda *a: 1\nall = lambda x: True\n"
    "def f(x): return 3",
    "looks for the tests": "import gc\ndef f(x):\n    for o in gc.get_objects():\n"
    "        for item in gc.get_referents(o):\n"
    "            if isinstance(item, str) and ''.join(['assert', ' f(1)']) in item: return 2\n    return 3",
    "reads the pipe": "import os\ndef f(x):\n    for fd in range(3, 64):\n        try:\n"
    "            os.set_blocking(fd, False)\n            if b'== 2' in os.read(fd, 9999): return 2\n"
    "        except OSError: pass\n    return 3",
    "changes its end of the wire": "import sys\ndef f(x):\n    wire = sys.modules['evals.graders.sandbox.wire']\n"
    "    wire.Side.encode = lambda *a: {'yours': 0}\n    return 3",
    "hooks": "import sys, atexit\natexit.register(print, 'PASS')\nsys.settrace(lambda *a: None)\n"
    "sys.excepthook = lambda *a: None\ndef f(x): assert False",
    "garbage": "import os\ndef f(x):\n    for fd in range(3, 64):\n        try: os.write(fd, b'\\xff' * 99999)\n"
    "        except OSError: pass",
    "a forged message": "import os\ndef f(x):\n    m = b'{\"result\": {\"nothing\": 1}, \"changed\": []}'\n"
    "    for fd in range(3, 64):\n        try: os.write(fd, len(m).to_bytes(4, 'little') + m)\n"
    "        except OSError: pass\n    return 3",
    "asks without end": "import os\ndef f(x):\n    m = b'{\"do\": \"call\", \"args\": [], \"kwargs\": {\"dict\": []}}'\n"
    "    while True:\n        for fd in range(3, 64):\n"
    "            try: os.write(fd, len(m).to_bytes(4, 'little') + m)\n            except OSError: pass",
    "deep": "def f(x):\n    a = []\n    for _ in range(99999): a = [a]\n    return a",
    "huge": "def f(x): return 'a' * (100 << 20)",
    "generators": "def f(x):\n    while True: yield 2",
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_do_not_pass(name: str) -> None:
    start = time.perf_counter()
    verdict = run(CHEATS[name], "assert f(1) == 2", "assert all([f(1) == 2]) and abs(-1) == 1", seconds=1)
    assert (verdict.score, verdict.parts["tests"]) == (0.0, 0.0), verdict
    assert time.perf_counter() - start < 10


def test_the_code_may_forge_its_own_answers_and_no_more() -> None:
    """A reply of its own making counts as what the function returned: it is judged like any other."""
    code = (
        'import os\ndef f(x):\n    m = b\'{"result": 2, "changed": []}\'\n    for fd in range(3, 64):\n'
        "        try: os.write(fd, len(m).to_bytes(4, 'little') + m)\n        except OSError: pass\n"
    )
    assert run(code, "assert f(1) == 2").score == 1.0
    assert run(code, "assert f(1) == 3").score == 0.0


HARM = {
    "fork bomb": "import os\nwhile True: os.fork()",
    "thread bomb": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
    "subprocess": "import subprocess; subprocess.run(['touch', MARK])",
    "shell": "import os\nassert os.system('touch ' + MARK) == 0",
    "exec": "import os; os.execv('/bin/sh', ['sh', '-c', 'touch ' + MARK])",
    "multiprocessing": "import multiprocessing as m; m.get_context('fork').Process(target=print).start()",
    "daemon": "import os\nif os.fork() == 0:\n    os.setsid()\n    open(MARK, 'w')",
    "leaves the group": "import os; os.setpgid(0, 0)",
    "write": "open(MARK, 'w').write('x')",
    "append": "open(EXISTING, 'a').write('x')",
    "truncate": "import os; os.truncate(EXISTING, 0)",
    "home": "import os; open(os.path.join(HOME, '.nano2-was-here'), 'w')",
    "delete": "import os; os.unlink(EXISTING)",
    "rename": "import os; os.rename(EXISTING, MARK)",
    "directory": "import os; os.mkdir(MARK)",
    "link": "import os; os.symlink('/etc/passwd', MARK)",
    "permissions": "import os; os.chmod(EXISTING, 0o777)",
    "times": "import os; os.utime(EXISTING, (0, 0))",
    "temporary file": "import tempfile; tempfile.mkdtemp()",
    "by libc": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "assert libc.creat(MARK.encode(), 0o644) >= 0 or libc.syscall(85, MARK.encode(), 0o644) >= 0",
    "network": "import socket; socket.create_connection(('127.0.0.1', PORT), 1)",
    "datagram": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "unix socket": "import socket; socket.socket(socket.AF_UNIX)",
    "download": "import urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{PORT}', timeout=1)",
    "shared memory": "import ctypes\nassert ctypes.CDLL(None).shmget(0x6e32, 4096, 0o1600) >= 0",
    "kills its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "kills everyone": "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "kills the grader": "import os, signal\nos.kill(GRADER, signal.SIGTERM)",
    "signals by a file": "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 8, GRADER)",
    "attaches": "import ctypes\nassert ctypes.CDLL(None).ptrace(16, GRADER, 0, 0) == 0",
    "limits of others": "import resource; resource.prlimit(GRADER, resource.RLIMIT_CPU, (1, 1))",
    "higher limits": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (9999, 9999))",
    "priority": "import os; os.setpriority(os.PRIO_USER, 0, 19)",
    "another user": "import os; os.setuid(12345)",
    "mount": "import ctypes\nassert ctypes.CDLL(None).mount(b'none', b'/mnt', b'tmpfs', 0, 0) == 0",
    "clock": "import time; time.clock_settime(time.CLOCK_REALTIME, 0)",
    "memory": "x = bytearray(8 << 30)",
    "memory, piece by piece": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "endless loop": "while True: pass",
    "endless loop in C": "sum(iter(int, 1))",
    "a huge number": "x = 9 ** 9 ** 9",
    "a slow pattern": "import re; re.match('(a+)+$', 'a' * 99 + 'b')",
    "sleeps": "import time\nwhile True: time.sleep(99)",
    "stops itself": "import signal; signal.pause()",
    "ignores the time limit": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
    "catches everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "much output": "while True: print('x' * 99999)",
    "input": "input()",
    "crash": "import ctypes; ctypes.string_at(0)",
    "recursion": "import sys; sys.setrecursionlimit(10**9)\ndef g(): g()\ng()",
}  # fmt: skip
READS = {
    "passwords": "open('/etc/passwd')",
    "environment": "open(f'/proc/{GRADER}/environ')",
    "its own": "open('/proc/self/maps')",
    "home": "import os; os.listdir(HOME)",
    "the answers": "open(DATA)",
}


@pytest.fixture(scope="module")
def listener() -> Any:
    """A port here that must not be reached; it counts who connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("name", [*HARM, *(f"reads {what}" for what in READS)])
def test_harm_is_contained(name: str, tmp_path: Path, listener: socket.socket, started: list[int]) -> None:
    if name.startswith("reads") and WITHOUT_LANDLOCK:
        pytest.skip("this kernel has no Landlock")
    existing = tmp_path / "existing"
    existing.write_text("as it was")
    before = existing.stat()
    names = {
        "MARK": str(tmp_path / "mark"),
        "EXISTING": str(existing),
        "HOME": os.path.expanduser("~"),
        "GRADER": os.getpid(),
        "PORT": listener.getsockname()[1],
        "DATA": __file__,
    }
    setup = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    code = HARM[name] if name in HARM else READS[name.removeprefix("reads ")]
    start = time.perf_counter()
    verdict = run(f"{setup}\n{code}\ndef f(x): return 2", "assert f(1) == 2", seconds=1)
    assert time.perf_counter() - start < 10
    assert (verdict.score, verdict.parts["tests"]) == (0.0, 0.0), verdict
    assert os.listdir(tmp_path) == ["existing"]
    assert existing.read_text() == "as it was"
    after = existing.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert not os.path.exists(os.path.join(names["HOME"], ".nano2-was-here"))
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert len(started) == 1
    with pytest.raises(ProcessLookupError):
        os.killpg(started[0], 0)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process groups of the sandboxes that the test starts."""
    groups: list[int] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            groups.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return groups


def test_tests_that_never_end_are_ended_and_what_passed_before_counts() -> None:
    verdict = run("def f(x): return 2", "assert f(1) == 2", "while True: f(1)", "assert f(1) == 2", seconds=1)
    assert verdict.parts["tests"] == 1 / 3
    assert "time" in verdict.detail


def test_what_the_tests_print_does_not_matter() -> None:
    assert (
        run("def f(x): return 2", "print('{}')\nimport os\nos.write(1, b'x')\nassert f(1) == 2").score == 1.0
    )


def test_the_environment_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANO2_SECRET", "secret")
    assert "secret" not in value("import os\ndef f(x): return dict(os.environ)")


def test_threads_may_grade(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        grades = list(pool.map(lambda n: run(f"def f(x): return {n}").score, range(4)))
    assert grades == [0.0, 0.0, 1.0, 0.0]
    assert threading.active_count() < 20


def test_a_machine_that_cannot_confine_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "available", lambda: False)
    with pytest.raises(PlanRefusedError, match="not run"):
        run("def f(x): return 2")


def test_no_code_runs_where_confining_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that cannot be set up (here: no such module) is an error of the machine, not a wrong answer."""
    monkeypatch.setattr("evals.graders.code._ROOT", tmp_path)
    with pytest.raises(PlanRefusedError, match="not run"):
        run("def f(x): return 2")


@pytest.mark.parametrize("landlock", ["True", "False"])
def test_nothing_can_be_written_without_landlock_either(landlock: str) -> None:
    code = (
        "from evals.graders.sandbox import confine as c\n"
        f"c.landlock_version = c.landlock_version if {landlock} else lambda: 0\n"
        "c.confine(cpu_seconds=5, memory=1 << 30)\nimport os\n"
        "for attempt in (os.fork, lambda: open('/tmp/x', 'w'), lambda: os.kill(1, 0), lambda: os.memfd_create('x')):\n"
        "    try: attempt()\n    except PermissionError: continue\n    os._exit(1)\nprint('held')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "held\n", done


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tests": []}, "tests"),
        ({"tests": "assert 1"}, "tests"),
        ({"tests": ["assert ("]}, "tests.0: no Python"),
        ({"setup": "import"}, "setup: no Python"),
        ({"entry_point": "f()"}, "entry_point"),
        ({"prefix": "def f():\n"}, "prefix"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": 1000}, "seconds"),
        ({"timeout": 1}, "timeout"),
    ],
)
def test_malformed_specifications_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        validate_spec({"name": "code", "tests": ["assert f(1) == 2"], **changes})
    assert words in caught.value.what
