"""Staged writes by processes that are killed, and by several at once."""

import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from model.artifact.staging import recover, staged_directory
from model.errors import UsageError

FILES = [f"part-{number}" for number in range(4)] + ["nano2.json"]


def write_generation(out: Path, label: str, *, overwrite: bool = True) -> None:
    with staged_directory(out, overwrite=overwrite) as staging:
        for name in FILES:
            (staging / name).write_text(label * 200)


def label_of(out: Path) -> str:
    """The generation at `out`; AssertionError if it is not whole."""
    texts = {name: (out / name).read_text() for name in FILES}
    first = texts["nano2.json"]
    assert len(first) % 200 == 0
    assert set(texts.values()) == {first}
    return first[: len(first) // 200]


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked process; its id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def leftovers(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir() if path != out)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_killed_at_every_rename(tmp_path: Path, number: int, after: bool, old: bool) -> None:
    out = tmp_path / "out"
    if old:
        write_generation(out, "old")

    def work() -> None:
        renames = 0
        real_rename = Path.rename

        def rename(source: Path, target: Path) -> Path:
            nonlocal renames
            renames += 1
            if renames == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real_rename(source, target)
            if renames == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        Path.rename = rename  # type: ignore[method-assign, assignment]
        write_generation(out, "new")

    os.waitpid(in_child(work), 0)
    if out.exists():
        assert label_of(out) in ("old", "new")
    recover(out)
    assert leftovers(out) == []
    if old:
        assert label_of(out) in ("old", "new")
    else:
        assert not out.exists() or label_of(out) == "new"
    write_generation(out, "next")
    assert label_of(out) == "next"
    assert leftovers(out) == []


def test_killed_at_random_moments(tmp_path: Path) -> None:
    out = tmp_path / "out"
    started = time.monotonic()
    write_generation(out, "first")
    duration = time.monotonic() - started
    dice = random.Random(0)
    for attempt in range(60):

        def work(attempt: int = attempt) -> None:
            for generation in range(1000):
                write_generation(out, f"{attempt}-{generation} ")

        child = in_child(work)
        time.sleep(dice.uniform(0, 4 * duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if out.exists():
            label_of(out)
        recover(out)
        assert leftovers(out) == []
        assert label_of(out)


def test_replaced_artifact_is_deleted_under_another_name(tmp_path: Path) -> None:
    """Else what is left of it, when that is cut short, would be taken for whole once OUT is gone."""
    out = tmp_path / "out"
    write_generation(out, "old")

    def work() -> None:
        def rmtree(path: Path, **_: object) -> None:
            (path / FILES[0]).unlink()
            os.kill(os.getpid(), signal.SIGKILL)

        shutil.rmtree = rmtree  # type: ignore[assignment]
        write_generation(out, "new")

    os.waitpid(in_child(work), 0)
    assert label_of(out) == "new"
    shutil.rmtree(out)  # the user's own hand
    recover(out)
    assert list(tmp_path.iterdir()) == []


def test_recovery_beside_a_writer_that_is_replacing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process tidies up after each rename of this one."""
    out = tmp_path / "out"
    write_generation(out, "old")
    real_rename = Path.rename
    codes = []

    def rename(source: Path, target: Path) -> Path:
        result = real_rename(source, target)
        codes.append(os.waitpid(in_child(lambda: recover(out)), 0)[1])
        return result

    monkeypatch.setattr(Path, "rename", rename)
    write_generation(out, "new")
    assert codes[:2] == [0, 0]
    assert label_of(out) == "new"
    assert leftovers(out) == []


def test_concurrent_writers_without_overwrite(tmp_path: Path) -> None:
    for attempt in range(10):
        out = tmp_path / str(attempt) / "out"

        def work(out: Path = out) -> None:
            try:
                write_generation(out, f"{os.getpid()} ", overwrite=False)
            except UsageError:
                os._exit(2)

        children = [in_child(work) for _ in range(3)]
        codes = {child: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
        winners = [child for child, code in codes.items() if code == 0]
        assert sorted(codes.values()) == [0, 2, 2]
        assert label_of(out) == f"{winners[0]} "
        assert leftovers(out) == []


def test_concurrent_writers_with_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_generation(out, "first")

    def work() -> None:
        for generation in range(25):
            write_generation(out, f"{os.getpid()}-{generation} ")

    children = {in_child(work) for _ in range(3)}
    looks = 0
    while children:
        looks += look_inside(out)
        for child in list(children):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                children.remove(child)
                assert status == 0
    assert looks > 0
    label_of(out)
    recover(out)
    assert leftovers(out) == []


def look_inside(out: Path) -> bool:
    """Read the directory as one that may be replaced and deleted meanwhile. AssertionError if it is half-written."""
    try:
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # between the two renames
        return False
    try:
        texts = set()
        for name in FILES:
            descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
            texts.add(os.read(descriptor, 1_000_000))
            os.close(descriptor)
    except FileNotFoundError:  # replaced and deleted while we read
        assert not is_same_directory(folder, out)
        return False
    finally:
        os.close(folder)
    assert len(texts) == 1
    return True


def is_same_directory(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
