"""Memory that stays with the process, or does not, and in what pieces.

glibc gives freed memory back to the kernel early, and gets it again page by page: on the machines this was measured on,
the page faults of a training step took more time than its arithmetic (docs/log.md).
"""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER_TRIM = 2**31 - 1
_LARGEST_HEAP_BLOCK = 32 * 2**20
"""The most that glibc accepts; larger blocks are mapped, and given back when freed."""
_SMALLEST_MAPPED_BLOCK = 2**18


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed memory for the next allocation. Does nothing with another C library."""
    _mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK)
    _mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)


def give_back_freed_memory() -> None:
    """Tell it to map larger blocks one by one, and to give them back: what is freed by recomputation, or where weights come
    and go between ranks, would stay as holes in the heap, up to half of what a step takes (docs/log.md)."""
    _mallopt(_M_MMAP_THRESHOLD, _SMALLEST_MAPPED_BLOCK)


def let_segments_grow() -> None:
    """Tell PyTorch's allocator of a GPU, before it is first used, to let its segments grow: what is reserved then stays near
    what is allocated. What the user has set stays."""
    if not {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"


def _mallopt(option: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(option, value)
