"""What a measuring process does to itself, for whichever side it measures, and how it looks at clock and memory."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles

import torch

from stages.common.allocator import keep_freed_memory, let_segments_grow


def set_up(threads: int) -> None:
    """What every nano2 command does to its process (stages/common/harness.py)."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    let_segments_grow()


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_rss() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def spread(seconds: Sequence[float]) -> float:
    """(90th - 10th percentile) / median."""
    if len(seconds) < 2:
        return 0.0
    deciles = quantiles(seconds, n=10, method="inclusive")
    return round((deciles[-1] - deciles[0]) / median(seconds), 3)
