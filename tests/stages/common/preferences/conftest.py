from pathlib import Path

import pytest

from stages.common.data.chat.tokenizer import ChatTokenizer


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path) -> ChatTokenizer:
    return ChatTokenizer.open(tokenizer_directory)
