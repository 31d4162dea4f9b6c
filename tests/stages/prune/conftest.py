"""A small packed dataset, made by the real stage, for runs of `nano2 prune` on the small model of tests/stages."""

from pathlib import Path
from typing import Any

import pytest

from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.data.stage import PREPARE
from tests.stages.common.data.helpers import story, write_jsonl


def prepared(folder: Path, tokenizer: Path, validation_fraction: float = 0.1) -> Path:
    """40 stories in rows of 32 tokens."""
    text = write_jsonl(folder / "text.jsonl.gz", map(story, range(40)))
    config = PREPARE.config.model_validate(
        {
            "data": [str(text)],
            "tokenizer": str(tokenizer),
            "seq_len": 32,
            "validation_fraction": validation_fraction,
            "duplicates": "exact",
            "workers": 1,
        }
    )
    run_stage(PREPARE, config, out=folder / "packed", reporter=QuietReporter(), command=["nano2"])
    return folder / "packed"


@pytest.fixture(scope="session")
def dataset(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("data"), tokenizer_directory)


def one_shape(model: Path, dataset: Path) -> dict[str, Any]:
    """One shape, measured on 8 rows."""
    return {
        "model": str(model),
        "data": [str(dataset)],
        "samples": 8,
        "sample_batch": 4,
        "micro_batch": 2,
        "layers": 4,
        "hidden": 40,
        "ffn": 48,
        "mamba_heads": 2,
        "tensorboard": False,
        "device": "cpu",
    }


@pytest.fixture
def settings(model: Path, dataset: Path) -> dict[str, Any]:
    return one_shape(model, dataset)
