"""A disk that is too small is refused before the merge; one that fills up meanwhile loses nothing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model.artifact.hashing import content_hash
from model.errors import ArtifactError, PlanRefusedError
from stages.common.reporter import ProgressBar, QuietProgressBar, QuietReporter
from tests.stages.merge.helpers import merge

pytestmark = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small tmpfs")


class Filler(QuietReporter):
    """Another program fills the disk as soon as some of the merge is written."""

    def __init__(self, disk: Path) -> None:
        super().__init__()
        self.file = disk / "filler"

    @contextmanager
    def progress(self, title: str, total: int | None, unit: str = "") -> Iterator[ProgressBar]:
        yield self if title == "merging" else QuietProgressBar()

    def update(self, advance: int = 1, **_: object) -> None:
        if advance and not self.file.exists():
            free = os.statvfs(self.file.parent)
            self.file.write_bytes(bytes(free.f_bavail * free.f_bsize))


@pytest.mark.parametrize("small_disk", ["64k"], indirect=True)
def test_too_small_is_refused_by_the_plan(a: Path, b: Path, small_disk: Path) -> None:
    with pytest.raises(PlanRefusedError, match=f"and {small_disk} has 60.0 KiB free: free some space"):
        merge(small_disk / "out", a, b)
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_full_in_the_middle_of_a_merge(a: Path, b: Path, small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the disk is full; no part of the artifact was left behind"):
        merge(small_disk / "out", a, b, reporter=Filler(small_disk))
    assert os.listdir(small_disk) == ["filler"]
    (small_disk / "filler").unlink()
    merge(small_disk / "out", a, b)
    merge(tmp_path / "out", a, b)
    assert content_hash(small_disk / "out") == content_hash(tmp_path / "out")
