"""Answers made of calls, for tests of environments."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from model.chat.events import Defect, Malformed, ParsedMessage
from model.chat.tool_calls import ToolCall

Call = Mapping[str, Any]


def call(tool: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": tool, "arguments": arguments}


def answer(calls: Sequence[Call], content: str = "Done.", *, malformed: bool = False) -> ParsedMessage:
    made = tuple(ToolCall(i, item["name"], json.dumps(item["arguments"])) for i, item in enumerate(calls))
    problems = (Malformed(Defect.UNCLOSED_THINK),) if malformed else ()
    return ParsedMessage("", content, made, problems)
