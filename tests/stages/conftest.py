from pathlib import Path

import pytest

from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.stages.common.data.helpers import story


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 400 tokens."""
    directory = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(iter([story(number) for number in range(50)]), 400), directory)
    return directory
