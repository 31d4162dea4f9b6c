"""A small packed dataset of three sources, made by the real stage, and the settings of runs on it."""

import gzip
import json
from pathlib import Path

import pytest

from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.data.stage import PREPARE
from tests.stages.common.data.helpers import story

SEQ_LEN = 32


@pytest.fixture(scope="session")
def dataset(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 32 tokens; sources books, code and math; some documents held out."""
    folder = tmp_path_factory.mktemp("data")
    for number, name in enumerate(("books", "code", "math")):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for index in range(40):
                file.write(json.dumps({"text": story(1000 * number + index)}) + "\n")
    config = PREPARE.config.model_validate(
        {
            "data": [str(folder / f"{name}.jsonl.gz") for name in ("books", "code", "math")],
            "tokenizer": str(tokenizer_directory),
            "seq_len": SEQ_LEN,
            "validation_fraction": 0.1,
            "duplicates": "exact",
            "workers": 1,
            "phases": [{"books": 1}, {"books": 1, "code": 1}, {"math": 1}],
        }
    )
    run_stage(PREPARE, config, out=folder / "packed", reporter=QuietReporter(), command=["nano2"])
    return folder / "packed"


@pytest.fixture
def settings(dataset: Path) -> dict[str, object]:
    """Twelve steps of four rows each with the smallest preset."""
    return {
        "data": [str(dataset)],
        "preset": "tiny",
        "tokens": 12 * 4 * SEQ_LEN,
        "batch_tokens": 4 * SEQ_LEN,
        "micro_batch": 2,
        "learning_rate": 3e-3,
        "warmup_tokens": 2 * 4 * SEQ_LEN,
        "log_every": 1,
        "tensorboard": False,
        "device": "cpu",
    }
