"""Every figure that README and docs quote is the one in its result file, and every result file is whole."""

from pathlib import Path

import pytest

from stages.common.quotes import RESULT_FOLDERS, ROOT, quoting_pages, render
from stages.common.results import read_result

RESULT_FILES = [path for folder in RESULT_FOLDERS for path in sorted((ROOT / folder).glob("*.json"))]


@pytest.mark.parametrize("page", quoting_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_agrees_with_the_result_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == render(text, page), "run `make docs` (python -m stages.common.quotes)"


@pytest.mark.parametrize("path", RESULT_FILES, ids=lambda path: path.name)
def test_a_result_file_is_one(path: Path) -> None:
    assert read_result(path).metrics
