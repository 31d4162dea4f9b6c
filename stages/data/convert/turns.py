"""Turns of the assistant, tool calls and results in the form of chat jsonl."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stages.data.convert.rows import field, text

Row = Mapping[str, Any]
Line = dict[str, Any]


def assistant(content: str, reasoning: str, calls: Sequence[Line]) -> Line:
    message: Line = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    return message


def parsed_call(value: Any, where: str) -> Line:
    if not isinstance(value, str):
        raise ValueError(f"{where}: a tool call is no JSON text")
    return named_call(json_object(value, f"{where}: a tool call"), where)


def named_call(call: Row, where: str) -> Line:
    """A call in the form of the `tool_calls` grader; arguments are also called parameters."""
    key = "arguments" if "arguments" in call else "parameters"
    try:
        return {"name": text(call, "name"), "arguments": field(call, key, dict)}
    except ValueError as error:
        raise ValueError(f"{where}: a tool call's {error}") from None


def calls_grader(message: Line) -> Line:
    return {"name": "tool_calls", "calls": [call["function"] for call in message.get("tool_calls", [])]}


def json_object(value: str, what: str) -> Line:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what}: no JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise ValueError(f"{what}: no JSON object")
    return parsed


def result(given: Any) -> Line:
    """The tool message of a result: text as it is, anything else as JSON."""
    content = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return {"role": "tool", "content": content}


def results(content: str, messages: Sequence[Line]) -> list[Line]:
    """The results in a JSON list of {"name", "content" or "results"}, if there is one for each call of the last message;
    otherwise the text as one result."""
    calls = messages[-1].get("tool_calls", []) if messages else []
    try:
        listed = json.loads(content)
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or len(listed) != len(calls):
        return [result(content)]
    found = [
        item.get("content", item.get("results"))
        for item in listed
        if isinstance(item, dict) and "name" in item
    ]
    if len(found) < len(calls) or None in found:
        return [result(content)]
    return [result(item) for item in found]


def with_id(row: Row) -> Line:
    return {"id": str(row["id"])} if "id" in row else {}
