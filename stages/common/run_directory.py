"""`OUT.run`: the lock of the one writer of OUT, and the state from which an interrupted run continues.

OUT.run/lock       flock; the kernel drops it with the process, so a killed run never blocks the next
OUT.run/run.json   the stage and resolved config that the state belongs to
OUT.run/...        the stage's own resume state
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.artifact.staging import discard, write_json
from model.errors import ArtifactError, UsageError
from stages.common.config import StageConfig
from stages.common.identity import first_difference, identity

LOCK_FILE = "lock"
RECORD_FILE = "run.json"

_held_locks: set[int] = set()


def _drop_inherited_locks() -> None:
    while _held_locks:
        os.close(_held_locks.pop())


# A forked worker shares its parent's lock and would hold it after the parent was killed.
os.register_at_fork(after_in_child=_drop_inherited_locks)


class RunDirectory:
    """The locked `OUT.run` of one run. Made by `locked_run_directory`."""

    def __init__(self, path: Path, out: Path) -> None:
        self.path = path
        self.out = out

    def begin(
        self,
        stage: str,
        config: type[StageConfig],
        resolved: dict[str, Any],
        command: Sequence[str],
        *,
        discard: bool,
    ) -> bool:
        """Claim the directory for this config; True if it holds an earlier run's state to continue from.

        State of a different config is a UsageError that names the first difference, or thrown away with
        `discard`.
        """
        resuming = False
        if self.has_state():
            difference = self._difference(stage, config, resolved)
            if difference and not discard:
                raise UsageError(
                    f"holds the state of an interrupted run that differs: {difference}",
                    where=str(self.path),
                    remedy="continue with the settings it was started with, or discard it with --overwrite",
                )
            if difference:
                self._discard_state()
            else:
                resuming = True
        seconds = self.seconds_before() if resuming else 0.0
        record = {"stage": stage, "config": resolved, "command": list(command), "seconds": seconds}
        write_json(self.path / RECORD_FILE, record)
        return resuming

    def has_state(self) -> bool:
        """Does it hold anything beside its own two files? (A kill may have cut the writing of one short.)"""
        half_written = f".{RECORD_FILE}.tmp-"
        names = (entry.name for entry in self.path.iterdir())
        return any(
            name not in (LOCK_FILE, RECORD_FILE) and not name.startswith(half_written) for name in names
        )

    def seconds_before(self) -> float:
        """Seconds of work by earlier, interrupted runs of the same command."""
        return float(self._record().get("seconds", 0.0))

    def add_seconds(self, seconds: float) -> None:
        """Record that an interrupted run worked for so long."""
        record = self._record()
        write_json(self.path / RECORD_FILE, record | {"seconds": record.get("seconds", 0.0) + seconds})

    def remove(self) -> None:
        """Delete the whole directory. It vanishes under a name that `recover` knows, so a kill here does no
        harm."""
        discard(self.path, self.out)

    def _difference(self, stage: str, config: type[StageConfig], resolved: dict[str, Any]) -> str | None:
        record = self._record()
        if record.get("stage") != stage:
            return f"it is a run of {record.get('stage')!r}"
        there, here = (identity(each, config, to_continue=True) for each in (record["config"], resolved))
        return first_difference(there, here)

    def _record(self) -> dict[str, Any]:
        path = self.path / RECORD_FILE
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(
                "exists and was not made by nano2 (it has no run.json)",
                where=str(self.path),
                remedy="choose another -o, or remove it yourself",
            ) from None
        except ValueError as error:
            raise _damaged(path) from error
        if not (isinstance(record, dict) and isinstance(record.get("config"), dict)):
            raise _damaged(path)
        return record

    def _discard_state(self) -> None:
        for entry in self.path.iterdir():
            if entry.name != LOCK_FILE:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError("is damaged", where=str(path), remedy=f"remove {path.parent} to start the run over")


@contextmanager
def locked_run_directory(out: Path) -> Iterator[RunDirectory]:
    """Create and lock `OUT.run`. Unless state was left in it, it is gone after the block.

    Raises UsageError if another process is writing `out`, or if `OUT.run` cannot be made.
    """
    path = out.with_name(out.name + ".run")
    created = _create_parents(out)
    try:
        descriptor = _lock(path)
        directory = RunDirectory(path, out)
        try:
            yield directory
        finally:
            if path.exists() and not directory.has_state():
                directory.remove()
            _held_locks.discard(descriptor)
            os.close(descriptor)
    finally:
        _remove_empty(created)


def _lock(path: Path) -> int:
    while True:
        try:
            path.mkdir(exist_ok=True)
            descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # its last owner removed it between the two lines
            continue
        except OSError as error:
            raise _not_writable(path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise UsageError(
                f"is being written by another run (process {owner or 'unknown'})",
                where=str(path.with_suffix("")),
                remedy="wait for it, or choose another -o",
            ) from None
        if _is_same_file(descriptor, path / LOCK_FILE):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            _held_locks.add(descriptor)
            return descriptor
        os.close(descriptor)  # the owner removed the directory after we had opened its lock


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _create_parents(out: Path) -> list[Path]:
    """Create the folder that OUT lies in; returns those that were missing, innermost first."""
    missing = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(out.parent, error) from error
    return missing


def _remove_empty(directories: Sequence[Path]) -> None:
    for directory in directories:
        try:
            directory.rmdir()
        except OSError:  # something lies in it: the artifact, or what another run put there
            return


def _not_writable(path: Path, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error
    return UsageError(f"cannot be written ({error.strerror})", where=str(path), remedy="choose another -o")
