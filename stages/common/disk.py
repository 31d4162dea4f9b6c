"""Tells a full disk from every other failure."""

import errno

_WORDS = ("no space left on device", "disk quota exceeded", "os error 28")


def is_disk_full(error: BaseException) -> bool:
    """Was a full disk, or a used-up quota, the cause? Libraries in Rust and C++ say so only in words."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(cause).lower() for words in _WORDS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
