"""Running one function over a stream in worker processes, with results in the order of the stream."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from model.errors import Nano2Error

T = TypeVar("T")
R = TypeVar("R")

_task: Callable[[Any], Any] | None = None


def available_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    make_task: Callable[[], Callable[[T], R]], items: Iterable[T], workers: int
) -> Generator[R, None, None]:
    """`task(item)` for each item, in order, a bounded number of items ahead.

    Args:
        make_task: builds the task once in each worker, for what is costly to open; a module-level function or a
            `functools.partial` of one, since it is sent to fresh (spawned) processes.
        items: read lazily in this process.
        workers: processes; 1 runs the task here.

    Raises:
        Nano2Error: a worker process died, most often for lack of memory. What the task raises is passed on.
    """
    if workers <= 1:
        yield from map(make_task(), items)
        return
    source = iter(items)
    executor = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(make_task,)
    )
    waiting: deque[Future[R]] = deque()
    try:
        waiting.extend(executor.submit(_run, item) for item in islice(source, 3 * workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(executor.submit(_run, item) for item in islice(source, 1))
            yield result
    except BrokenProcessPool as error:
        raise Nano2Error(
            f"one of {workers} worker processes died, perhaps for lack of memory", remedy="lower --workers"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _start(make_task: Callable[[], Callable[[Any], Any]]) -> None:
    """Prepares a worker: interrupts are the parent's business, and a worker never outlives its parent."""
    global _task
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _task = make_task()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(item: Any) -> Any:
    assert _task is not None
    return _task(item)
