import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from model.loading import save
from model.tokenizer import copy_tokenizer
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.data.stage import PREPARE
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story, write_jsonl


def prepared(folder: Path, tokenizer: Path, texts: Mapping[str, Iterable[str]], **settings: Any) -> Path:
    """A packed dataset of these sources, made by the real stage: rows of 32 tokens, some documents held out."""
    files = [write_jsonl(folder / f"{name}.jsonl.gz", source) for name, source in texts.items()]
    given = {"data": list(map(str, files)), "tokenizer": str(tokenizer), "seq_len": 32}
    usual = {"validation_fraction": 0.1, "duplicates": "exact", "workers": 1}
    config = PREPARE.config.model_validate(given | usual | settings)
    run_stage(PREPARE, config, out=folder / "packed", reporter=QuietReporter(), command=["nano2"])
    return folder / "packed"


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
