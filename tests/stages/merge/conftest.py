from pathlib import Path

import pytest

from tests.stages.merge.helpers import make_model


@pytest.fixture(scope="session")
def a(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "a", tokenizer_directory, 0)


@pytest.fixture(scope="session")
def b(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "b", tokenizer_directory, 1)
