"""A small packed dataset for runs of `nano2 prune` on the small model of tests/stages."""

from pathlib import Path
from typing import Any

import pytest

from tests.stages.common.data.helpers import story
from tests.stages.conftest import prepared


def stories(folder: Path, tokenizer: Path, **settings: Any) -> Path:
    """40 of them in rows of 32 tokens."""
    return prepared(folder, tokenizer, {"text": map(story, range(40))}, **settings)


@pytest.fixture(scope="session")
def dataset(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stories(tmp_path_factory.mktemp("data"), tokenizer_directory)


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
