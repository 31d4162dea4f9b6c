from pathlib import Path

import pytest

from model.loading import save
from model.tokenizer import copy_tokenizer, load_tokenizer
from tests.model.miniatures import miniature, randomized
from tests.stages.conftest import tokenizer_directory

__all__ = ["tokenizer_directory"]


@pytest.fixture(scope="session")
def artifact(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that reads 64 tokens."""
    directory: Path = tmp_path_factory.mktemp("artifact")
    copy_tokenizer(tokenizer_directory, directory)
    vocab = len(load_tokenizer(directory))
    save(
        randomized(miniature("M*-", vocab_size=vocab, max_position_embeddings=64, eos_token_id=2)), directory
    )
    return directory
