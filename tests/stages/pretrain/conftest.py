"""A small packed dataset of three sources, and the settings of runs on it."""

from pathlib import Path

import pytest

from tests.stages.common.data.helpers import story
from tests.stages.conftest import prepared

SEQ_LEN = 32


@pytest.fixture(scope="session")
def dataset(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 32 tokens; sources books, code and math; some documents held out."""
    numbers = {"books": range(40), "code": range(1000, 1040), "math": range(2000, 2040)}
    texts = {name: map(story, source) for name, source in numbers.items()}
    phases = [{"books": 1}, {"books": 1, "code": 1}, {"math": 1}]
    return prepared(tmp_path_factory.mktemp("data"), tokenizer_directory, texts, phases=phases)


@pytest.fixture
def settings(dataset: Path) -> dict[str, object]:
    return twelve_steps(dataset)


def twelve_steps(dataset: Path) -> dict[str, object]:
    """Of four rows each, with the smallest preset."""
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
