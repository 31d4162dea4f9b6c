import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from model.chat.template import read_template
from stages.common.data.chat.tokenizer import ChatTokenizer


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path) -> ChatTokenizer:
    return ChatTokenizer.open(tokenizer_directory)


@pytest.fixture
def with_template(tokenizer_directory: Path, tmp_path: Path) -> Callable[[str], ChatTokenizer]:
    """The tokenizer with another chat template."""

    def make(template: str) -> ChatTokenizer:
        directory = tmp_path / "other"
        shutil.copytree(tokenizer_directory, directory)
        assert (directory / "chat_template.jinja").read_text() == read_template()
        (directory / "chat_template.jinja").write_text(template)
        return ChatTokenizer.open(directory)

    return make
