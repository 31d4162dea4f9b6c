"""The question of the demo, to a real server."""

import json
from pathlib import Path

import pytest

from model.errors import ArtifactError
from stages.common.chain.ask import ask, question

ASKED = [{"role": "system", "content": "Tools: none."}, {"role": "user", "content": "How are you?"}]


def test_a_served_model_is_asked_and_the_server_ends(model: Path, tmp_path: Path) -> None:
    told = ask(model, ASKED)
    assert told["model"] == model.name
    assert told["messages"] == ASKED
    assert told["answer"]["role"] == "assistant"
    assert told["usage"]["completion_tokens"] > 0


def test_a_server_that_does_not_start_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="ended with exit code"):
        ask(tmp_path / "nothing", ASKED)


def test_the_question_ends_before_the_first_answer(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    answered = [*ASKED, {"role": "assistant", "content": "Well."}]
    path.write_text(json.dumps({"messages": answered}) + "\n")
    assert question(path) == ASKED
