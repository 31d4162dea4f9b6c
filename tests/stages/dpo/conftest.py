import json
from pathlib import Path
from typing import Any

import pytest

from tests.stages.common.data.helpers import WORDS
from tests.stages.dpo.helpers import Settings


def pair(word: str) -> dict[str, Any]:
    """The better answer names the word, the worse one does not."""
    return {
        "prompt": [{"role": "user", "content": f"What of the {word}?"}],
        "chosen": f"The {word} is here.",
        "rejected": "Nothing is here.",
    }


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair(word)) + "\n" for word in dict.fromkeys(WORDS)))
    return path


@pytest.fixture
def settings(model: Path, pairs: Path) -> Settings:
    return {
        "model": str(model),
        "data": [str(pairs)],
        "seq_len": 256,
        "batch_pairs": 8,
        "micro_batch": 2,
        "learning_rate": 1e-3,
        "validation_fraction": 0.1,
        "log_every": 1,
        "tensorboard": False,
        "device": "cpu",
    }
