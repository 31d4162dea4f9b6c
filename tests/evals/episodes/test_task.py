"""What of a line of chat jsonl is asked."""

from typing import Any

import pytest

from evals.chat_lines import parse_sample
from evals.chat_tasks import ChatTask
from evals.episodes.task import Task, TaskPrompt
from model.errors import ArtifactError
from tests.evals.episodes.desk import FIND, MOVE, line
from tests.model.chat.builders import assistant, call, calls, result, user

MATH = {"name": "math", "answer": "1"}
SYSTEM = {"role": "system", "content": "Be brief."}
LOOP = [
    calls(call("find", FIND["arguments"])),
    result("e1"),
    calls(call("move", MOVE["arguments"])),
    result("ok"),
]
DONE = assistant("Done.")


def shown(said: dict[str, Any], **more: Any) -> tuple[list[str], bool | None]:
    """The roles of what is asked, and the thinking."""
    task = Task.of(parse_sample(line(**said, **more), "line 3"))
    assert task.place == "line 3"
    return [message["role"] for message in task.messages], task.thinking


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        ([user(), *LOOP, DONE], ["user"]),
        ([SYSTEM, user(), *LOOP, DONE], ["system", "user"]),
        ([user(), *LOOP], ["user"]),
        ([user()], ["user"]),
        ([user(), DONE, user(), *LOOP, DONE], ["user", "assistant", "user"]),
        ([DONE, user(), *LOOP, DONE], ["assistant", "user"]),
    ],
)
def test_in_an_environment_all_behind_the_question_is_hidden(messages: Any, roles: list[str]) -> None:
    assert shown({"messages": messages})[0] == roles


def test_a_prompt_with_calls_begins_before_them() -> None:
    """The environment is as it was before the first call."""
    said = {"messages": None, "prompt": [user(), *LOOP[:2]], "completion": [*LOOP[2:], DONE]}
    assert shown(said)[0] == ["user"]


@pytest.mark.parametrize("grader", [MATH, None])
def test_elsewhere_the_last_turn_is(grader: Any) -> None:
    assert shown({"messages": [user(), *LOOP, DONE]}, grader=grader)[0] == [
        "user",
        *["assistant", "tool"] * 2,
    ]
    assert shown({"messages": [user(), *LOOP]}, grader=grader)[0] == ["user", *["assistant", "tool"] * 2]


@pytest.mark.parametrize(
    ("said", "reasoning", "thinking"),
    [(None, None, False), (None, "Hm.", True), (True, None, True), (False, "Hm.", False)],
)
def test_thinking_is_that_of_training(said: bool | None, reasoning: str | None, thinking: bool) -> None:
    first = {**LOOP[0], "reasoning_content": reasoning}
    assert shown({"messages": [user(), first, *LOOP[1:], DONE]}, thinking=said)[1] is thinking


def test_switches_are_left_to_the_template() -> None:
    assert shown({"messages": [user("Hi /no_think"), *LOOP, DONE]})[1] is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"messages": [DONE]}, "has no message of a user"),
        ({"messages": [SYSTEM]}, "has no message of a user"),
        ({"messages": None, "prompt": "Hi", "completion": "Ho"}, "is plain text"),
    ],
)
def test_what_cannot_be_asked(said: Any, words: str) -> None:
    with pytest.raises(ArtifactError, match=words) as caught:
        shown(said)
    assert caught.value.where == "line 3"


def test_the_prompt_of_an_evaluation_is_a_text_that_knows_its_task() -> None:
    plain = {"messages": [user("Hi")], "grader": MATH}
    task = ChatTask("a", [(line(), "line 1"), (plain, "line 2")])
    prompts = [
        task.fewshot_context(
            doc, 0, apply_chat_template=True, chat_template=lambda messages, **_: str(len(messages))
        )
        for doc in task.test_docs()
    ]
    assert prompts == ["2", "1"]
    assert isinstance(prompts[0], TaskPrompt)
    assert not isinstance(prompts[1], TaskPrompt)
    assert prompts[0].task.messages[-1]["content"] == "Move lunch to Tue"
