"""Staged directories and atomic small files."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.artifact import staging as staging_module
from model.artifact.staging import (
    artifact_name,
    discard,
    recover,
    staged_directory,
    write_json,
    write_text_atomic,
)
from model.errors import ArtifactError, UsageError

DEAD_TAG = f"{2**22 - 1}_0123abcd"  # no process has this id


def make(path: Path, text: str = "old") -> Path:
    """An artifact as far as staging is concerned."""
    path.mkdir(parents=True)
    (path / "nano2.json").write_text(text)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_directory_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"
    with staged_directory(out) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "file").write_text("x")
        assert not out.exists()
        assert staging.parent == out.parent
        assert artifact_name(staging) == "out"
    assert (out / "sub" / "file").read_text() == "x"
    assert names(out.parent) == ["out"]


def test_exception_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), staged_directory(out) as staging:  # noqa: PT012
        (staging / "file").write_text("x")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_exception_leaves_the_old_artifact(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    with pytest.raises(RuntimeError), staged_directory(out, overwrite=True):
        raise RuntimeError
    assert names(tmp_path) == ["out"]
    assert (out / "nano2.json").read_text() == "old"


def test_taken_output_is_refused_before_any_work(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    with pytest.raises(UsageError, match="exists already") as caught, staged_directory(out):
        pytest.fail("the block must not run")
    assert str(out) in str(caught.value)
    assert "--overwrite" in caught.value.remedy


def test_overwrite_replaces_an_artifact(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    with staged_directory(out, overwrite=True) as staging:
        assert (out / "nano2.json").read_text() == "old"
        (staging / "nano2.json").write_text("new")
    assert (out / "nano2.json").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_overwrite_never_deletes_a_folder_of_the_user(tmp_path: Path) -> None:
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not made by nano2"), staged_directory(out, overwrite=True):
        pytest.fail("the block must not run")
    assert (out / "thesis.tex").exists()


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    for overwrite in (False, True):
        with pytest.raises(UsageError), staged_directory(tmp_path / "out", overwrite=overwrite):
            pytest.fail("the block must not run")
    with pytest.raises(UsageError, match="cannot be written"), staged_directory(tmp_path / "out" / "below"):
        pytest.fail("the block must not run")


def test_empty_directory_is_free(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staged_directory(tmp_path / "out") as staging:
        (staging / "file").write_text("x")
    assert names(tmp_path / "out") == ["file"]


def test_link_is_followed(tmp_path: Path) -> None:
    make(tmp_path / "disk" / "real")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "real")
    with staged_directory(tmp_path / "out", overwrite=True) as staging:
        (staging / "nano2.json").write_text("new")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "real" / "nano2.json").read_text() == "new"


def test_output_finished_by_another_meanwhile(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="meanwhile"), staged_directory(out):
        make(out, "theirs")
    assert names(tmp_path) == ["out"]
    assert (out / "nano2.json").read_text() == "theirs"


def test_every_file_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with staged_directory(tmp_path / "out") as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "file").write_text("x")
    assert synced == [str(path) for path in (staging / "sub/file", staging / "sub", staging, tmp_path)]


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ({"tmp": "half"}, None),  # killed while writing, no old one
        ({"out": "old", "tmp": "half"}, "old"),  # killed while writing
        ({"old": "old", "tmp": "new"}, "new"),  # killed between the two renames
        ({"out": "new", "old": "old"}, "new"),  # killed before the old one was deleted
        ({"old": "old"}, "old"),  # the new one is gone, by whatever hand
        ({"out": "new", "trash": "half"}, "new"),  # killed while deleting
        ({"trash": "half"}, None),
    ],
)
def test_recovery_from_every_state(tmp_path: Path, found: dict[str, str], left: str | None) -> None:
    out = tmp_path / "out"
    for role, text in found.items():
        make(out if role == "out" else tmp_path / f"out.{role}-{DEAD_TAG}", text)
    recover(out)
    assert names(tmp_path) == (["out"] if left else [])
    if left:
        assert (out / "nano2.json").read_text() == left


def test_recovery_where_the_user_made_an_empty_directory(tmp_path: Path) -> None:
    make(tmp_path / f"out.old-{DEAD_TAG}", "old")
    (tmp_path / "out").mkdir()
    recover(tmp_path / "out")
    assert (tmp_path / "out" / "nano2.json").read_text() == "old"


def test_recovery_keeps_to_its_own_names(tmp_path: Path) -> None:
    kept = [
        "out.old-2024",
        "out.old-20260101",
        "out.tmp-1",
        "out.trash-can",
        f"output.tmp-{DEAD_TAG}",
        "out.run",
    ]
    for name in kept:
        make(tmp_path / name)
    recover(tmp_path / "out")
    assert names(tmp_path) == sorted(kept)


def test_recovery_leaves_living_writers_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged_directory(out) as staging:
        recover(out)
        assert staging.is_dir()
        with staged_directory(out) as second:
            (second / "nano2.json").write_text("second")
            assert staging.is_dir()
        discard(out, out)
    assert names(tmp_path) == ["out"]


def test_leftover_of_a_living_process_id_is_removed(tmp_path: Path) -> None:
    # in containers every run has the same process id
    make(tmp_path / f"out.tmp-{os.getpid()}_0123abcd", "half")
    recover(tmp_path / "out")
    assert names(tmp_path) == []


def test_file_system_without_locks_falls_back_to_process_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(9, "Bad file descriptor")  # what NFS says

    monkeypatch.setattr(fcntl, "flock", flock)
    make(tmp_path / f"out.tmp-{DEAD_TAG}", "half")
    make(tmp_path / f"out.tmp-{os.getppid()}_0123abcd", "theirs")
    with staged_directory(tmp_path / "out") as staging:
        recover(tmp_path / "out")
        assert staging.exists()
    assert names(tmp_path) == ["out", f"out.tmp-{os.getppid()}_0123abcd"]


def test_forked_worker_does_not_hold_the_lock(tmp_path: Path) -> None:
    script = """
import os, sys, time
from pathlib import Path
from model.artifact.staging import staged_directory
with staged_directory(Path(sys.argv[1])):
    if os.fork() == 0:
        print("worker", flush=True)
        time.sleep(30)
        os._exit(0)
    os.wait()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "out")], stdout=subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    try:
        parent.stdout.readline()
        parent.kill()
        parent.wait()
        recover(tmp_path / "out")
        assert names(tmp_path) == []
    finally:
        os.killpg(parent.pid, 9)
        parent.stdout.close()


def test_read_only_place(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        place = Path("/proc/nano2/out")
    else:
        tmp_path.chmod(0o500)
        place = tmp_path / "out"
    with pytest.raises((UsageError, FileNotFoundError)), staged_directory(place):
        pytest.fail("the block must not run")


def test_write_text_atomic_replaces_or_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_text_atomic(path, "first\r\n")
    assert path.read_bytes() == b"first\r\n"
    monkeypatch.setattr(staging_module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "I/O error")))
    with pytest.raises(OSError, match="I/O"):
        write_text_atomic(path, "second")
    assert names(tmp_path) == ["file.json"]
    assert path.read_bytes() == b"first\r\n"


def test_write_json_is_stable(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": [1.5, "é"]})
    write_json(tmp_path / "b", {"a": [1.5, "é"], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_text() == '{\n  "a": [\n    1.5,\n    "é"\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "c", float("nan"))
    assert not (tmp_path / "c").exists()


class TestFullDisk:
    """On a real file system of one megabyte."""

    @pytest.fixture
    def disk(self, tmp_path: Path) -> "object":
        place = tmp_path / "disk"
        place.mkdir()
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mount.returncode:
            pytest.skip(f"mounting a tmpfs is not permitted here: {mount.stderr.strip()}")
        yield place
        subprocess.run(["umount", str(place)], check=True)

    def test_nothing_is_left(self, disk: Path) -> None:
        out = disk / "out"
        with pytest.raises(ArtifactError, match="disk is full") as caught, staged_directory(out) as staging:
            (staging / "large").write_bytes(bytes(2_000_000))
        assert names(disk) == []
        assert str(out) in str(caught.value)
        assert "another disk" in caught.value.remedy

    def test_old_artifact_stays(self, disk: Path) -> None:
        make(disk / "out")
        with pytest.raises(ArtifactError), staged_directory(disk / "out", overwrite=True) as staging:
            (staging / "large").write_bytes(bytes(2_000_000))
        assert names(disk) == ["out"]
        assert (disk / "out" / "nano2.json").read_text() == "old"

    def test_weights(self, disk: Path) -> None:
        import torch

        from model.artifact.weights import save_weights

        tensors = {f"t{number}": torch.zeros(100_000) for number in range(4)}
        for max_shard_bytes in (500_000, 10_000_000):
            with (
                pytest.raises(ArtifactError, match="disk is full"),
                staged_directory(disk / "out") as staging,
            ):
                save_weights(tensors, staging, max_shard_bytes=max_shard_bytes)
            assert names(disk) == []

    def test_small_file(self, disk: Path) -> None:
        write_text_atomic(disk / "file", "old")
        (disk / "filler").write_bytes(bytes((os.statvfs(disk).f_bavail) * os.statvfs(disk).f_bsize))
        with pytest.raises(OSError, match="No space"):
            write_text_atomic(disk / "file", "new" * 10_000)
        assert names(disk) == ["file", "filler"]
        assert (disk / "file").read_text() == "old"
