import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.loading import save
from model.tokenizer import copy_tokenizer
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 400 tokens."""
    directory = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(iter([story(number) for number in range(50)]), 400), directory)
    return directory


@pytest.fixture(scope="session")
def model(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh model of every kind of block, with a tokenizer that has the chat template."""
    directory = tmp_path_factory.mktemp("model")
    copy_tokenizer(tokenizer_directory, directory)
    save(randomized(miniature("M-M*-", vocab_size=448, hidden_size=48)), directory)
    return directory


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of the size of the parameter, such as "64k"."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)
