"""A function on several ranks that talk through gloo, each in a process forked from the tests', so that nothing is imported
anew: two ranks start and end in a tenth of a second."""

import multiprocessing
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

SECONDS = 60


def run_ranks(ranks: int, function: Callable[..., Any], *args: Any, timeout: float = SECONDS) -> list[Any]:
    """`function(*args)` on each rank, where the process group is there and RANK, LOCAL_RANK and WORLD_SIZE are as torchrun
    sets them: what each returned, in the order of the ranks.

    The exception of the rank that failed first is raised again, with its traceback as a note; the others are ended. So is a
    run that takes more than `timeout` seconds, with TimeoutError. Results are pickled, arguments need not be.
    """
    context = multiprocessing.get_context("fork")
    with TemporaryDirectory() as folder:
        receivers, processes = [], []
        for rank in range(ranks):
            receiver, sender = context.Pipe(duplex=False)
            arguments = (sender, rank, ranks, Path(folder, "store"), timeout, function, args)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            sender.close()
            receivers.append(receiver)
            processes.append(process)
        try:
            return _collect(receivers, time.monotonic() + timeout)
        finally:
            for process, receiver in zip(processes, receivers, strict=True):
                process.kill()
                process.join()
                receiver.close()


def _collect(receivers: list[Connection], deadline: float) -> list[Any]:
    results: dict[int, Any] = {}
    while len(results) < len(receivers):
        waiting = [receiver for rank, receiver in enumerate(receivers) if rank not in results]
        ready = wait(waiting, max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"ranks {[receivers.index(receiver) for receiver in waiting]} have not ended")
        failures = []
        for receiver in ready:
            assert isinstance(receiver, Connection)
            rank = receivers.index(receiver)
            try:
                at, result, failure = receiver.recv()
            except EOFError:
                at, result, failure = time.monotonic(), None, RuntimeError(f"rank {rank} was killed")
            results[rank] = result
            if failure is not None:
                failures.append((at, rank, failure))
        if failures:  # the others fail because one has left
            raise min(failures, key=lambda failed: failed[:2])[2]
    return [results[rank] for rank in range(len(receivers))]


def _serve(
    sender: Connection,
    rank: int,
    ranks: int,
    store: Path,
    timeout: float,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "GLOO_SOCKET_IFNAME": loopback,
    }
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=timeout),
        )
        message = (time.monotonic(), function(*args), None)
    except BaseException as error:
        error.add_note(f"on rank {rank} of {ranks}:\n{traceback.format_exc()}")
        message = (time.monotonic(), None, _sendable(error))
    sender.send(message)
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()  # stays, for others may still need what it sent; the parent ends it


def _sendable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
