"""The answer of an episode: what is scored is what was said last."""

from typing import Any

from evals.answers import Answer, Outcome, Played

CALL = 'Look.</think>\n\n<TOOLCALL>[{"name": "find", "arguments": {}}]</TOOLCALL>\n'
BROKEN = "Look.</think>\n\n<TOOLCALL>[{]</TOOLCALL>\n"


def played(*turns: str, **changes: Any) -> Played:
    settings = {
        "text": "<SPECIAL_12>\n<SPECIAL_11>User\n".join(turns),
        "opened": True,
        "cut": False,
        "thinking_tokens": 3,
        "answer_tokens": 2,
        "forced": False,
        "temperature": 0.0,
        "seed": 1,
        "turns": turns,
        "end": "answered",
        "tool_errors": 0,
    }
    return Played(**{**settings, **changes})


def test_the_text_is_the_last_turns() -> None:
    assert Answer.of(played(CALL, "So.</think>\n\nDone."), "</think>") == "Done."
    assert Answer.of(played(CALL, "So, and so on"), "</think>") == "", "its thinking never ended"
    assert Answer.of(played(CALL, "So.</think>\n\nDone."), None) == "So.</think>\n\nDone."


def test_calls_and_problems_are_those_of_all_turns() -> None:
    answer = played(CALL, CALL, "So.</think>\n\nDone.")
    assert [call.index for call in answer.message.tool_calls] == [0, 1]
    assert (answer.message.reasoning, answer.message.content) == ("So.", "Done.")
    assert answer.outcome(right=True) is Outcome.RIGHT
    assert (answer.record()["turns"], answer.record()["calls"], answer.record()["end"]) == (3, 2, "answered")
    assert played(CALL, BROKEN).outcome(right=True) is Outcome.MALFORMED
    assert played("So", CALL).outcome(right=True) is Outcome.MALFORMED, "an earlier turn counts, too"
    assert played(CALL, CALL, cut=True, end="turns").outcome(right=True) is Outcome.UNFINISHED
