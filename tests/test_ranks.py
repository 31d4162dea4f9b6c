"""Ranks of a test: results, the first failure, one that is killed, one that waits for ever."""

import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from model.errors import UsageError
from tests.ranks import run_ranks


def test_each_rank_returns_what_it_made_with_the_others() -> None:
    def added(start: float) -> tuple[str, float]:
        value = torch.tensor([start + dist.get_rank()])
        dist.all_reduce(value)
        return os.environ["RANK"], float(value)

    assert run_ranks(3, added, 10.0) == [("0", 33.0), ("1", 33.0), ("2", 33.0)]


def test_the_first_failure_is_raised_and_ends_the_others() -> None:
    def refuse() -> None:
        if dist.get_rank() == 1:
            raise UsageError("no", where="here", remedy="stop")
        dist.barrier()

    with pytest.raises(UsageError, match="here: no") as raised:
        run_ranks(2, refuse)
    assert raised.value.remedy == "stop"
    assert "on rank 1 of 2" in raised.value.__notes__[0]


def test_a_killed_rank_is_told_of() -> None:
    def die() -> None:
        if dist.get_rank() == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    with pytest.raises(RuntimeError, match="rank 0 was killed"):
        run_ranks(2, die)


def test_a_rank_that_waits_for_ever_ends_with_the_time() -> None:
    def wait_alone() -> None:
        if dist.get_rank() == 0:
            time.sleep(60)

    with pytest.raises(TimeoutError, match=r"ranks \[0\] have not ended"):
        run_ranks(2, wait_alone, timeout=2)
