"""A measurement runs in a process of its own, and what goes wrong there is said here."""

import os
import resource

import pytest

from model.errors import Nano2Error
from stages.bench.isolation import run_isolated

BALLAST = bytearray()


def process_and_sum(a: int, b: int) -> tuple[int, int]:
    return os.getpid(), a + b


def grow(size: int) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    BALLAST.extend(bytes(size))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def fail() -> None:
    raise ValueError("no such setting")


def die() -> None:
    os.kill(os.getpid(), 9)


def test_the_result_comes_from_a_fresh_process_each_time() -> None:
    results = [run_isolated(process_and_sum, 2, b=3) for _ in range(2)]
    assert [total for _, total in results] == [5, 5]
    assert len({os.getpid(), *(process for process, _ in results)}) == 3


def test_memory_of_one_measurement_is_not_seen_by_the_next() -> None:
    size = 64 * 2**20
    grown = [run_isolated(grow, size) for _ in range(2)]
    assert all(size * 0.9 < kib * 1024 < size * 2.2 for kib in grown)
    assert not BALLAST


def test_an_exception_becomes_an_error_that_says_what_ran(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Nano2Error, match=r"fail\(\).*ValueError: no such setting") as raised:
        run_isolated(fail)
    assert "in fail\n" in str(raised.value.__cause__)
    assert capfd.readouterr() == ("", "")


def test_a_killed_process_is_reported() -> None:
    with pytest.raises(Nano2Error, match="ended with code -9") as raised:
        run_isolated(die)
    assert "memory" in raised.value.remedy
