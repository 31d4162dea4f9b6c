import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.errors import ArtifactError
from tests.stages.pretrain.test_pretrain import pretrain

pytestmark = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small tmpfs")


@pytest.mark.parametrize("small_disk", ["400k"], indirect=True)
def test_no_room_for_a_state_leaves_nothing(settings: dict[str, Any], small_disk: Path) -> None:
    with pytest.raises(ArtifactError, match="the disk is full"):
        pretrain(settings | {"save_seconds": 0}, small_disk / "base")
    assert [str(p) for p in small_disk.rglob("*")] == []


@pytest.mark.parametrize("small_disk", ["200k"], indirect=True)
def test_no_room_for_the_weights_leaves_nothing(settings: dict[str, Any], small_disk: Path) -> None:
    with pytest.raises(ArtifactError, match="the disk is full"):
        pretrain(settings, small_disk / "base")
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("small_disk", ["900k"], indirect=True)
def test_room_for_a_state_but_not_for_the_weights_keeps_the_state(
    settings: dict[str, Any], small_disk: Path
) -> None:
    with pytest.raises(ArtifactError, match="the disk is full"):
        pretrain(settings | {"save_seconds": 0}, small_disk / "base")
    assert os.listdir(small_disk) == ["base.run"]
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    pretrain(settings | {"save_seconds": 0}, small_disk / "base")
    assert os.listdir(small_disk) == ["base"]
