"""Is there room on the disk? Asked before a run, and told from every other failure after it."""

import errno
import os
import shutil
from pathlib import Path

from stages.common.plan import Plan
from stages.common.sizes import format_bytes

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


def space_at(path: Path) -> tuple[Path, int]:
    """The deepest folder above `path` that is there, and the bytes that are free on its disk."""
    folder = next(parent for parent in Path(os.path.realpath(path)).parents if parent.is_dir())
    return folder, shutil.disk_usage(folder).free


def with_free_space(plan: Plan, out: Path) -> Plan:
    """The plan with the space that is free where `out` will lie, and a refusal if that is less than it takes."""
    if plan.disk_bytes is None:
        return plan
    folder, free = space_at(out)
    refusals = list(plan.refusals)
    if free < plan.disk_bytes:
        refusals.append(
            f"{out} takes {format_bytes(plan.disk_bytes)} and {folder} has {format_bytes(free)} free: "
            "free some space, or choose an -o on another disk"
        )
    sections = {**plan.sections, "Disk": {"free_bytes": free}}
    return plan.model_copy(update={"sections": sections, "refusals": refusals})
