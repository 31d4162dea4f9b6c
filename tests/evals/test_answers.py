"""What becomes of an answer: one of four words, whatever is generated."""

from typing import Any

import pytest

from evals.answers import Answer, Generated, Outcome


def generated(text: str, *, opened: bool = True, cut: bool = False, **more: Any) -> Generated:
    settings = {
        "thinking_tokens": 3,
        "answer_tokens": 2,
        "forced": False,
        "temperature": 0.0,
        "seed": 1,
        **more,
    }
    return Generated(text, opened, cut, **settings)


@pytest.mark.parametrize(
    ("text", "opened", "cut", "right", "outcome"),
    [
        ("so</think>8", True, False, True, "right"),
        ("so</think>8", True, False, False, "wrong"),
        ("8", False, False, True, "right"),
        ("so</think>8 and on", True, True, True, "unfinished"),
        ("so and so on", True, True, False, "unfinished"),
        ("so", True, False, False, "malformed"),  # it ended its turn inside of the thinking
        ("so</think>8</think>8", True, False, True, "malformed"),
        ("8</think>", False, False, True, "malformed"),
        ("so</think><think>again</think>8", True, False, True, "malformed"),
        ('so</think><TOOLCALL>[{"name": "f", "arguments": {}}]</TOOLCALL>', True, False, True, "right"),
        ('so</think><TOOLCALL>[{"name": "f"]</TOOLCALL>', True, False, True, "malformed"),
        ('so</think><TOOLCALL>[{"name": "f", "arguments": {', True, True, True, "unfinished"),
        ("so</think>", True, False, False, "wrong"),
    ],
)
def test_outcomes(text: str, opened: bool, cut: bool, right: bool, outcome: str) -> None:
    assert generated(text, opened=opened, cut=cut).outcome(right) == Outcome(outcome)


def test_an_answer_is_a_string_that_remembers() -> None:
    answer = Answer.of(generated("7?</think>\n\n8", temperature=0.6, seed=5), "</think>")
    assert answer == "8"
    assert isinstance(answer, str)
    assert answer.record() == {
        "text": "7?</think>\n\n8",
        "finish_reason": "stop",
        "well_formed": True,
        "problems": [],
        "thinking_tokens": 3,
        "answer_tokens": 2,
        "forced": False,
        "temperature": 0.6,
        "seed": 5,
    }


def test_greedy_answers_have_no_seed_and_defects_are_named() -> None:
    record = Answer.of(generated("never ends", cut=True), "</think>").record()
    assert "seed" not in record
    assert record["finish_reason"] == "length"
    assert record["problems"] == ["thinking was not closed by </think>"]
