"""Takes from this process, for good, all that it does not need to compute: Linux, by ctypes, without privileges.

Three things, each for itself: resource limits; a seccomp filter, after which no system call can write a file, open a socket,
start a process or a thread, run a program or signal another process; and, where the kernel has it, Landlock, after which
nothing but Python's standard library can be read. Root's capabilities are given up.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterator

from evals.graders.sandbox.system_calls import (
    ARCHITECTURES,
    COMMANDS,
    FORBIDDEN,
    NOT_THERE,
    OPENING,
    PRLIMIT,
)

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long

PR_SET_DUMPABLE, PR_GET_SECCOMP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 21, 22, 38

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def available() -> bool:
    """Whether this machine can confine a process at all: Linux with seccomp, on x86-64 or ARM64."""
    return (
        sys.platform == "linux"
        and platform.machine() in ARCHITECTURES
        and _LIBC.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0
    )


def landlock_version() -> int:
    """The version of Landlock that the kernel speaks; 0: it has none, and reading is not confined."""
    return max(0, int(_LIBC.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def confine(*, cpu_seconds: int, memory: int, may_end: int | None = None) -> None:
    """Confine this process, which must have one thread. may_end: the only process that it may send a signal to.

    Raises OSError, and then it must not go on.
    """
    for kind, limit in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    _check(_LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
    _check(_LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if version := landlock_version():
        _restrict_files(version, scoped=may_end is None)
    # capset: version 3 of its header, this process; no effective, permitted or inheritable capability
    _check(_LIBC.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)))
    program = b"".join(_filter(may_end))
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    _check(_LIBC.prctl(PR_SET_SECCOMP, 2, header, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _restrict_files(version: int, *, scoped: bool) -> None:
    """Landlock: all rights over files and ports that this version knows are taken; reading the library is given.

    scoped: nor may it signal a process outside, or use its abstract sockets.
    """
    rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    attributes = struct.pack("QQQ", (1 << rights) - 1, 0b11, 0b11 if scoped else 0)[
        : {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(version, 24)
    ]
    ruleset = int(_LIBC.syscall(444, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)))
    _check(ruleset)
    read_file, read_directory = 1 << 2, 1 << 3
    for path in _library():
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        right = read_file | read_directory if os.path.isdir(path) else read_file
        rule = struct.pack("=Qi", right, descriptor)
        _check(_LIBC.syscall(445, ruleset, ctypes.c_int(1), rule, ctypes.c_uint32(0)))
        os.close(descriptor)
    _check(_LIBC.syscall(446, ruleset, ctypes.c_uint32(0)))
    os.close(ruleset)


def _library() -> Iterator[str]:
    """What Python's own modules may have to read. Installed packages are not among it: data of the tests may be."""
    yield from ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")
    yield from ("/dev/urandom", "/dev/null", os.path.join(sys.base_prefix, "lib", "libpython3.so"))
    for name in (f"libpython3.{sys.version_info.minor}.so", f"libpython3.{sys.version_info.minor}.so.1.0"):
        yield os.path.join(sys.base_prefix, "lib", name)
    library = os.path.dirname(os.__file__)
    for name in sorted(os.listdir(library)):
        if name not in ("site-packages", "dist-packages"):
            yield os.path.join(library, name)


def _filter(may_end: int | None) -> Iterator[bytes]:
    """The seccomp filter, as instructions of classic BPF over {number, architecture, instruction pointer, arguments}."""
    column, architecture = ARCHITECTURES[platform.machine()]
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    yield step(load, 4)
    yield step(equal, architecture, 1, 0)
    yield step(answer, kill)
    yield step(load, 0)
    yield step(at_least, 0x40000000, 0, 1)  # the x32 numbers of x86-64
    yield step(answer, refuse)
    if may_end is not None:
        yield step(equal, FORBIDDEN["kill"][column] or 0, 0, 4)
        yield step(load, 16)
        yield step(equal, may_end, 1, 0)
        yield step(answer, refuse)
        yield step(answer, allow)
    for calls, result in ((FORBIDDEN, refuse), (NOT_THERE, 0x00050000 | errno.ENOSYS)):
        for numbers in calls.values():
            if (number := numbers[column]) is not None:
                yield step(equal, number, 0, 1)
                yield step(answer, result)
    for numbers, argument in OPENING.values():
        if (number := numbers[column]) is not None:
            yield step(equal, number, 0, 4)
            yield step(load, 16 + 8 * argument)
            yield step(any_bit, _WRITING, 0, 1)
            yield step(answer, refuse)
            yield step(answer, allow)
    for numbers, commands in COMMANDS.values():
        yield step(equal, numbers[column], 0, 2 + 2 * len(commands))
        yield step(load, 16 + 8 * 1)
        for command in commands:
            yield step(equal, command, 0, 1)
            yield step(answer, refuse)
        yield step(answer, allow)
    yield step(equal, PRLIMIT[column], 0, 4)
    yield step(load, 16)
    yield step(equal, 0, 1, 0)  # its own limits may be asked for
    yield step(answer, refuse)
    yield step(answer, allow)
    yield step(answer, allow)
