"""What a model may reply, and what is said about it."""

import json

import pytest

from stages.data.longqa.pairs import NoPair, Pair
from stages.data.longqa.replies import parse_reply

EXCERPT = "On day 4 Abel brought 120 sacks of\nbarley to the North Quay. The clerk's ledger said so."
GOOD = {"question": "Where did Abel bring the barley?", "answer": "the north quay"}
PAIR = Pair(GOOD["question"], GOOD["answer"], "written")
TEXT = json.dumps(GOOD)


@pytest.mark.parametrize(
    "reply",
    [
        TEXT,
        f"  \n{TEXT}\n",
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"Here is the pair you asked for: {TEXT} I hope it helps!",
        f"<think>\nThe excerpt {{speaks}} of Abel.\n</think>\n\n{TEXT}",
        f'{{"note": 1}} {TEXT}',
        f"{{ not json {TEXT}",
        json.dumps({"excerpt": "x", **GOOD}),
    ],
)
def test_a_pair_is_found_in_what_models_write_around_it(reply: str) -> None:
    assert parse_reply(reply, EXCERPT) == PAIR


def test_white_space_and_case_of_the_answer_make_no_difference() -> None:
    reply = json.dumps({"question": "What did\n Abel bring?", "answer": " 120 SACKS of\n\nbarley. "})
    assert parse_reply(reply, EXCERPT) == Pair("What did Abel bring?", "120 SACKS of barley.", "written")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("<think>I never stop thinking about", "is empty"),
        ("I cannot help with that.", "no JSON object"),
        ("{", "no JSON object"),
        ("[" * 3000 + "{" * 3000, "no JSON object"),
        (TEXT[:-3], "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"question": "Who?"}', "no JSON object"),
        ('{"question": "Who?", "answer": null}', "no text"),
        ('{"question": ["Who?"], "answer": "Abel"}', "no text"),
        ('{"question": "Who?", "answer": 120}', "no text"),
        ('{"question": "Who?", "answer": " \\n "}', "is empty"),
        ('{"question": "", "answer": "Abel"}', "is empty"),
        (json.dumps({"question": "Who? " * 200, "answer": "Abel"}), "too long"),
        (json.dumps({"question": "Who?", "answer": "Abel " * 200}), "too long"),
        ("x" * 200_000, "far too long"),
        ('{"question": "Who \\ud800?", "answer": "Abel"}', "no text"),
        ('{"question": "Who?", "answer": "Abel\\u0000"}', "no text"),
        ('{"question": "Did Abel bring barley?", "answer": "barley"}', "gives the answer away"),
        ('{"question": "Who?", "answer": "Berta"}', "does not stand in the excerpt"),
    ],
)
def test_anything_else_is_no_pair_and_says_why(reply: str, reason: str) -> None:
    outcome = parse_reply(reply, EXCERPT)
    assert isinstance(outcome, NoPair)
    assert reason in outcome.reason


def test_a_reply_that_had_to_end_is_said_to_be_cut_off_unless_its_pair_was_whole() -> None:
    for reply in ("<think>I never stop thinking about", TEXT[:-3], ""):
        outcome = parse_reply(reply, EXCERPT, cut_off=True)
        assert outcome == NoPair("the reply was cut off at --reply-tokens")
    assert parse_reply(TEXT + " Moreover,", EXCERPT, cut_off=True) == PAIR
