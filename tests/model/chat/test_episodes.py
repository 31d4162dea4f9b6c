"""Where episodes begin, and who says whether the assistant thinks in the last one."""

from typing import Any

import pytest

from model.chat.episodes import Thinking, episodes_of, thinking_of
from model.chat.messages import Message
from tests.model.chat.builders import assistant, call, calls, result, user


def messages(*said: dict[str, Any]) -> list[Message]:
    return [Message.model_validate(message) for message in said]


SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("said", "spans"),
    [
        ([user(), assistant()], [(0, 2)]),
        ([SYSTEM, user(), assistant()], [(0, 3)]),
        ([user(), assistant(), user()], [(0, 2), (2, 3)]),
        ([user(), user(), assistant()], [(0, 1), (1, 3)]),
        ([user(), calls(call()), result(), assistant(), user(), assistant()], [(0, 4), (4, 6)]),
        ([SYSTEM, assistant(), user(), assistant()], [(0, 2), (2, 4)]),
        ([assistant()], [(0, 1)]),
        ([SYSTEM], [(0, 1)]),
    ],
)  # fmt: skip
def test_episodes(said: list[dict[str, Any]], spans: list[tuple[int, int]]) -> None:
    assert [(span.start, span.stop) for span in episodes_of(messages(*said))] == spans


def test_the_chat_then_its_switches_then_its_reasoning() -> None:
    def of(said: bool | None, ask: str, turn: dict[str, Any]) -> Thinking:
        return thinking_of(said, messages(user(ask), turn), [1])

    reasoned = assistant(reasoning="Hm")
    assert of(None, "Hi", assistant()) == (False, False)
    assert of(None, "Hi", reasoned) == (True, True)
    assert of(None, "Hi", assistant("<think>Hm</think>Hello")) == (True, True)
    assert of(None, "Hi", assistant(reasoning=" \n")) == (False, False)
    assert of(None, "Hi /no_think", reasoned) == (None, False)
    assert of(None, "/no_think Hi /think", assistant()) == (None, True)
    assert of(None, "Hi a/no_think /thinking", reasoned) == (True, True)
    assert of(None, "Hi", assistant("/think")) == (False, False)
    assert of(True, "Hi /no_think", assistant()) == (True, True)
    assert of(False, "Hi /think", reasoned) == (False, False)


def test_only_the_turns_of_the_question_count() -> None:
    chat = messages(user(), assistant(reasoning="Hm"), user(), calls(call()), result(), assistant())
    assert not thinking_of(None, chat, [3, 5]).on
    assert thinking_of(None, chat, [1]).on
    assert not thinking_of(None, chat, []).on
