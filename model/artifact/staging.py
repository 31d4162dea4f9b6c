"""Directories and small files that appear whole or not at all.

A directory is written under a sibling name, synced to disk, and renamed to OUT. Four names can be seen
beside each other, each with one meaning at every instant, so that whoever comes next can tidy up after a
process that was killed. TAG is the writer's process id and eight random digits, which no folder of the
user's has by chance.

    OUT             whole
    OUT.tmp-TAG     being written; whole only while OUT.old-TAG exists
    OUT.old-TAG     the artifact that is being replaced: whole
    OUT.trash-TAG   being deleted: of no use to anybody

A writer holds a lock (flock) on its staging directory; the kernel drops it with the process, so a leftover
is told from a directory in use even where process ids repeat, as they do in containers.
"""

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from model.errors import ArtifactError, UsageError

PROVENANCE_FILE = "nano2.json"
_TAG = re.compile(r"(\d+)_[0-9a-f]{8}")
_locks: set[int] = set()
_OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_WRITABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EBUSY}
)


@contextmanager
def staged_directory(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty directory that becomes `out` when the block ends, and vanishes if the block raises.

    With `overwrite` an earlier artifact at `out` stays in place until the new one is on disk. Only a
    directory with a nano2.json is replaced: a folder of the user's own is never deleted.

    Raises:
        UsageError: `out` is taken, cannot be written, or another run finished it first.
        ArtifactError: the disk is full.
    """
    out = Path(os.path.realpath(out))
    with _explained(out, _OUT_OF_SPACE | _NOT_WRITABLE):
        recover(out)
        refuse_if_taken(out, overwrite=overwrite)
        out.parent.mkdir(parents=True, exist_ok=True)
        staging, lock = _claim(out)
    try:
        with _explained(out, _OUT_OF_SPACE):
            yield staging
            sync_tree(staging)
        with _explained(out, _OUT_OF_SPACE | _NOT_WRITABLE):
            _commit(staging, out, overwrite=overwrite)
    except BaseException:
        discard(staging, out)
        with suppress(OSError):
            recover(out)  # puts back what _commit had moved aside
        raise
    finally:
        _locks.discard(lock)
        os.close(lock)


def refuse_if_taken(out: Path, *, overwrite: bool) -> None:
    """Raise UsageError if `out` exists and may not be replaced. An empty directory counts as free."""
    names = _names_in(out)
    if not names:
        return
    if not overwrite:
        raise UsageError(
            "the output exists already",
            where=str(out),
            remedy="choose another -o, or pass --overwrite to replace it",
        )
    if PROVENANCE_FILE not in names:
        raise UsageError(
            f"will not be overwritten, because it was not made by nano2 (it has no {PROVENANCE_FILE})",
            where=str(out),
            remedy="choose another -o, or remove it yourself",
        )


def recover(out: Path) -> None:
    """Tidy up after killed writers of `out`: finish or undo a replacement cut in two, delete their leftovers.

    A writer killed between moving the old artifact aside and moving the new one in has left both whole, and
    the new one takes its place here. Directories of living writers are left alone.
    """
    out = Path(os.path.realpath(out))
    for old in _siblings(out, "old"):
        staging = _sibling(out, "tmp", _tag(old))
        if _is_held(staging):
            continue
        if not _names_in(out):
            with suppress(OSError):  # another process that tidies up at this moment was first
                (staging if staging.is_dir() else old).rename(out)
        if _names_in(out):
            discard(old, out)
    for staging in _siblings(out, "tmp"):
        if not _is_held(staging):
            discard(staging, out)
    for trash in _siblings(out, "trash"):
        shutil.rmtree(trash, ignore_errors=True)


def artifact_name(directory: Path) -> str:
    """The name an artifact has, or will have once its staging directory is renamed."""
    stem, separator, tag = directory.name.rpartition(".tmp-")
    return stem if separator and _TAG.fullmatch(tag) else directory.name


def write_text_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 file, as `write_bytes_atomic`."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Write a file that a reader sees either as it was or as it will be, even across a power cut."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that is the same bytes for the same value: sorted keys, two spaces, UTF-8, a final newline.

    Raises ValueError for NaN and infinities, which JSON cannot say.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text_atomic(path, text + "\n")


def sync_tree(directory: Path) -> None:
    """Force every file and directory below `directory` to disk, contents before the names that hold them."""
    for folder, _, files in os.walk(directory, topdown=False):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _commit(staging: Path, out: Path, *, overwrite: bool) -> None:
    old = _sibling(out, "old", _tag(staging))
    while True:
        try:
            staging.rename(out)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        try:
            refuse_if_taken(out, overwrite=overwrite)
        except UsageError as error:
            raise UsageError(
                f"was written by another run meanwhile ({error.what})", where=str(out), remedy=error.remedy
            ) from None
        discard(old, out)  # there is one only if a second writer put its artifact where ours had just left
        with suppress(FileNotFoundError):  # a second writer moved it away between the two lines
            out.rename(old)
    _sync(out.parent)
    discard(old, out)


def discard(directory: Path, out: Path) -> None:
    """Delete a directory, under a name that nobody takes for a whole one while files disappear from it."""
    trash = _sibling(out, "trash", _new_tag())
    with suppress(OSError):  # what is not there needs no deleting, what cannot be moved is left for recover()
        directory.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def _claim(out: Path) -> tuple[Path, int]:
    """Create and lock a staging directory: its path, and the descriptor that holds the lock."""
    while True:
        staging = _sibling(out, "tmp", _new_tag())
        staging.mkdir()
        # Another process's recover() may take it in the instant before the lock: then it is made anew.
        with suppress(FileNotFoundError):
            descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system that cannot lock directories: see _is_held
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if staging.exists():
                _locks.add(descriptor)
                return staging, descriptor
            os.close(descriptor)


def _drop_inherited_locks() -> None:
    while _locks:
        os.close(_locks.pop())


# A forked worker shares its parent's lock, and would hold it after the parent was killed.
os.register_at_fork(after_in_child=_drop_inherited_locks)


def _is_held(staging: Path) -> bool:
    """Whether a living process writes this staging directory."""
    try:
        descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system that cannot lock directories
        return _process_exists(int(_tag(staging).partition("_")[0]))
    finally:
        os.close(descriptor)
    return False


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _new_tag() -> str:
    return f"{os.getpid()}_{secrets.token_hex(4)}"


def _tag(sibling: Path) -> str:
    return sibling.name.rpartition("-")[2]


def _sibling(out: Path, role: str, tag: str) -> Path:
    return out.with_name(f"{out.name}.{role}-{tag}")


def _siblings(out: Path, role: str) -> list[Path]:
    """The directories OUT.role-TAG beside `out`."""
    prefix = f"{out.name}.{role}-"
    with suppress(FileNotFoundError):
        return [
            path
            for path in out.parent.iterdir()
            if path.name.startswith(prefix)
            and _TAG.fullmatch(path.name.removeprefix(prefix))
            and path.is_dir()
        ]
    return []


def _names_in(out: Path) -> list[str]:
    """What lies in the directory `out`: nothing if it does not exist. A file counts as holding itself."""
    while True:
        try:
            descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            return [out.name] if out.is_file() else []
        try:
            names = os.listdir(descriptor)
            with suppress(FileNotFoundError):
                # Else another writer replaced it while it was listed, and may have been deleting it.
                if os.path.samestat(os.fstat(descriptor), out.stat()):
                    return names
        finally:
            os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(out: Path, errors: frozenset[int]) -> Iterator[None]:
    """Turn these refusals (errno) of the operating system into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in errors:
            raise
        if error.errno in _OUT_OF_SPACE:
            raise ArtifactError(
                "the disk is full; no part of the artifact was left behind",
                where=str(out),
                remedy="free some space, or choose an -o on another disk",
            ) from error
        raise UsageError(
            f"cannot be written ({error.strerror})", where=str(out), remedy="choose another -o"
        ) from error
