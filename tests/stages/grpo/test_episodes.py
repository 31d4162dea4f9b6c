"""Episodes with tools through the whole stage: a model that calls at random learns to look without sending."""

from pathlib import Path

import pytest

from model.artifact.hashing import content_hash
from model.errors import InterruptedRunError
from model.tokenizer import load_tokenizer
from stages.grpo import sampling
from tests.evals.scripted import END, Table, scripted_model
from tests.stages.grpo.conftest import Grpo, Settings, logged, write

FIND = '[{"name": "find", "arguments": {"text": "rent"}}]'
SEND = '[{"name": "send", "arguments": {"person": "Dan", "text": "hi"}}]'
DOUBLE = (
    '[{"name": "send", "arguments": {"person": "Dan", "text": "hi"}}, {"name": "mystery", "arguments": {}}]'
)

TABLE: Table = {
    "</think>": {"<TOOLCALL>": 0.8, "1": 0.2},
    "<TOOLCALL>": {FIND: 0.3, SEND: 0.5, DOUBLE: 0.2},
    FIND: "</TOOLCALL>",
    SEND: "</TOOLCALL>",
    DOUBLE: "</TOOLCALL>",
    "</TOOLCALL>": END,
    "1": END,
    "\n": {"2": 0.5, "</think>": 0.5},
    "2": {"2": 0.6, "</think>": 0.4},
}

ERRAND = {
    "messages": [
        {"role": "system", "content": "Tools: find(text), send(person, text)."},
        {"role": "user", "content": "Is there something about the rent? Send nothing."},
    ],
    "thinking": False,
    "grader": {
        "name": "desk",
        "state": {"messages": [["5", "from", "Ana", "rent is due"]]},
        "calls": [],
    },
}


@pytest.fixture
def errands(tokenizer_directory: Path, tmp_path: Path) -> Settings:
    tokenizer = load_tokenizer(tokenizer_directory)
    tokenizer.add_tokens([FIND, SEND, DOUBLE])
    tokenizer.save_pretrained(tmp_path / "calls")
    return {
        "model": str(scripted_model(tmp_path / "caller", tmp_path / "calls", TABLE)),
        "data": [str(write(tmp_path / "errands.jsonl", [ERRAND]))],
        "rewards": ["grader"],
        "prompts": 1,
        "samples": 24,
        "seq_len": 512,
        "max_tokens": 60,
        "max_turns": 4,
        "learning_rate": 5e-3,
        "weight_decay": 0.0,
    }


@pytest.mark.slow
def test_errands_are_learned(grpo: Grpo, errands: Settings, tmp_path: Path) -> None:
    grpo(tmp_path / "out", **errands | {"steps": 5})
    lines = logged(tmp_path / "out")
    assert lines[0]["reward"] < 0.4
    assert lines[-1]["reward"] > 0.9
    assert lines[0]["turns"] > 1.5
    assert lines[0]["tool_calls"] > 1
    assert lines[0]["out_of_turns"] > 0
    assert all(line["failed"] == line["tool_errors"] == 0 for line in lines)
    assert lines[0]["gap"] < 1e-6
    assert all(line["gap"] < 1e-3 for line in lines)  # the logits of this model reach tens of thousands


def test_an_interruption_amid_episodes_changes_nothing(
    grpo: Grpo, errands: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = errands | {
        "steps": 4,
        "updates": 2,
        "thinking": "mixed",
        "thinking_budget": 4,
        "thinking_grace": 0,
    }
    grpo(tmp_path / "whole", **changes)
    play, calls = sampling.play, []

    def play_and_stop(*arguments: object, check: object, **settings: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            check.func.__self__.stop.signal_name = "SIGTERM"  # type: ignore[attr-defined]
        return play(*arguments, check=check, **settings)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "play", play_and_stop)
        with pytest.raises(InterruptedRunError):
            grpo(tmp_path / "parts", **changes)
    grpo(tmp_path / "parts", **changes)
    assert content_hash(tmp_path / "parts") == content_hash(tmp_path / "whole")
    assert any(line["thinking_closed"] > 0 for line in logged(tmp_path / "whole"))
