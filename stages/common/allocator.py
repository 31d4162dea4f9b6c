"""Memory that stays with the process.

glibc gives freed memory back to the kernel early, and gets it again page by page: on the machines this was measured on,
the page faults of a training step took more time than its arithmetic (docs/log.md).
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER_TRIM = 2**31 - 1
_LARGEST_HEAP_BLOCK = 32 * 2**20
"""The most that glibc accepts; larger blocks are mapped, and given back when freed."""


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed memory for the next allocation. Does nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)
