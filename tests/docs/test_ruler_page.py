"""The table of docs/ruler.md against the tasks."""

import re
from pathlib import Path
from typing import Any

import pytest

from evals.ruler.samples import TASKS, samples
from model.errors import UsageError
from tests.evals.ruler.conftest import made, nano2

PAGE = Path(__file__).parents[2] / "docs" / "ruler.md"
ROWS = {
    task: (int(room), int(least))
    for task, room, least in re.findall(
        r"^\| (\w+) \|.*\| (\d+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE
    )
}


def test_all_tasks_are_told() -> None:
    assert list(ROWS) == list(TASKS)


@pytest.mark.parametrize("task", ROWS)
def test_rooms_and_least_lengths(task: str) -> None:
    room, told = ROWS[task]
    assert room == TASKS[task].answer_tokens
    tokenizer: Any = made(nano2)
    with pytest.raises(UsageError) as caught:
        samples(task, tokenizer, 60, 20)
    (least,) = re.findall(r"(\d+) are the least", caught.value.what)
    assert int(least) == pytest.approx(told, rel=0.06)


def test_questions_come_again_after_about_30000_tokens() -> None:
    from evals.ruler.material import questions
    from evals.ruler.tokens import TokenCounter

    assert sum(TokenCounter(made(nano2)).pieces(questions().paragraphs)) == pytest.approx(30_000, rel=0.3)
