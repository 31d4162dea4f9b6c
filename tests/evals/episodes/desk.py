"""Lines of the desk, and a model that calls its tools by chance."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.evals.episodes.office import BROKEN, Table, save_office, tokenizer_with_calls
from tests.evals.scripted import END
from tests.model.chat.builders import assistant, call, calls, result, user


def written(*made: Mapping[str, Any]) -> str:
    return json.dumps(list(made))


MOVE = {"name": "move", "arguments": {"id": "e1", "day": "Tue"}}
BACK = {"name": "move", "arguments": {"id": "e1", "day": "Mon"}}
FIND = {"name": "find", "arguments": {"text": "lunch"}}
CALLS = (written(FIND), written(MOVE), written(FIND, BACK))

ERRANDS: Table = {
    "</think>": {"<TOOLCALL>": 0.65, "1": 0.35},
    "<TOOLCALL>": {CALLS[0]: 0.25, CALLS[1]: 0.5, CALLS[2]: 0.15, BROKEN: 0.1},
    **{one: {"</TOOLCALL>": 1.0} for one in (*CALLS, BROKEN)},
    "</TOOLCALL>": {"\n": 1.0},
    "1": {"1": 0.3, "\n": 0.7},
    "\n": {END: 1.0},
}
"""Thinking is off. It moves the event, finds it or moves it back, until it says ones."""

THOUGHTS: Table = {
    **ERRANDS,
    "\n": {"2": 0.5, "<TOOLCALL>": 0.3, "1": 0.2},
    "2": {"2": 0.7, "</think>": 0.3},
    "</TOOLCALL>": {END: 1.0},
    "1": {END: 1.0},
}
"""Thinking is on."""


def line(text: str = "Move lunch to Tue", **changes: Any) -> dict[str, Any]:
    """A line of chat jsonl whose errand is to move an event. Its reference looks it up first."""
    messages = [
        {"role": "system", "content": "Be brief."},
        user(text),
        calls(call("find", FIND["arguments"])),
        result("e1 lunch Mon"),
        calls(call("move", MOVE["arguments"])),
        result("ok"),
        assistant("Done."),
    ]
    grader = {"name": "desk", "state": {"events": [["e1", "lunch", "Mon"]]}, "calls": [MOVE]}
    return {"messages": messages, "grader": grader, **changes}


def chat_file(path: Path, *lines: Mapping[str, Any]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return path


def desk_model(source: Path, directory: Path, table: Table) -> Path:
    """An artifact whose tokenizer writes each of the calls as one token."""
    directory.mkdir(parents=True)
    tokenizer = tokenizer_with_calls(source, directory / "tokenizer", (*CALLS, BROKEN))
    return save_office(directory / "model", tokenizer, table)
