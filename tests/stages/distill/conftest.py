"""A teacher that was trained on stories, a student that is its damaged copy, packed text and chats of one tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model.loading import load, save
from model.tokenizer import copy_tokenizer
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.pretrain.stage import STAGE as PRETRAIN
from tests.stages.common.data.helpers import WORDS, story
from tests.stages.conftest import prepared

SEQ_LEN = 64


def pack(folder: Path, tokenizer: Path, *, first: int = 0, seq_len: int = SEQ_LEN) -> Path:
    """Sixty stories in two sources."""
    numbers = {"books": range(first, first + 40), "notes": range(first + 100, first + 120)}
    texts = {name: [story(number, words=60) for number in source] for name, source in numbers.items()}
    return prepared(folder, tokenizer, texts, seq_len=seq_len)


@pytest.fixture(scope="session")
def packed(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("text"), tokenizer_directory)


@pytest.fixture(scope="session")
def teacher(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = PRETRAIN.config.model_validate(
        {
            "data": [str(packed)],
            "preset": "tiny",
            "tokens": 60 * 8 * SEQ_LEN,
            "batch_tokens": 8 * SEQ_LEN,
            "micro_batch": 8,
            "learning_rate": 1e-2,
            "tensorboard": False,
            "device": "cpu",
        }
    )
    out = tmp_path_factory.mktemp("teacher") / "model"
    run_stage(PRETRAIN, config, out=out, reporter=QuietReporter(), command=["nano2"])
    return out


@pytest.fixture(scope="session")
def student(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher with noise as large as each matrix."""
    directory = tmp_path_factory.mktemp("student")
    lm, generator = load(teacher), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.dim() == 2:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * parameter.std())
    save(lm, directory)
    copy_tokenizer(teacher, directory)
    return directory


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    samples = [
        {
            "messages": [
                {"role": "user", "content": f"What follows {word}?"},
                {"role": "assistant", "content": WORDS[(number * 7 + 3) % len(WORDS)]},
            ]
        }
        for number, word in enumerate(dict.fromkeys(WORDS))
    ]
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return path


@pytest.fixture
def settings(teacher: Path, student: Path, packed: Path) -> dict[str, Any]:
    return ten_steps(teacher, student, packed)


def ten_steps(teacher: Path, student: Path, packed: Path) -> dict[str, Any]:
    """Of four rows each."""
    return {
        "model": str(student),
        "teacher": str(teacher),
        "data": [str(packed)],
        "seq_len": SEQ_LEN,
        "tokens": 10 * 4 * SEQ_LEN,
        "batch_tokens": 4 * SEQ_LEN,
        "micro_batch": 2,
        "learning_rate": 3e-3,
        "log_every": 1,
        "tensorboard": False,
        "device": "cpu",
    }
