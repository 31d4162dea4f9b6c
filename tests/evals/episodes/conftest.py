from pathlib import Path
from typing import Any

import pytest

from tests.evals.episodes.office import tokenizer_with_calls
from tests.stages.conftest import tokenizer_directory

__all__ = ["tokenizer_directory"]


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tokenizer_with_calls(tokenizer_directory, tmp_path_factory.mktemp("calls"))
