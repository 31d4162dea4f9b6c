"""ToolRL: a system text that lists tools in words, a dialogue in tags, and a response in tags."""

import re
from collections.abc import Mapping
from typing import Any

from stages.data.convert.rows import LeftOut, text
from stages.data.convert.turns import assistant, calls_grader, json_object, parsed_call, results, with_id

Row = Mapping[str, Any]
Line = dict[str, Any]

_LISTED_TOOL = re.compile(r"\d+\. Name: (.*)\nDescription: ((?:.|\n)*?)\nParameters: (\{.*\})(?:\n|$)")
_SEGMENT = re.compile(r"\s*<(user|think|tool_call|obs|response)>(.*?)</\1>\s*", re.DOTALL)
_JSON_TYPES = {
    **dict.fromkeys(("str", "string"), "string"),
    **dict.fromkeys(("int", "integer"), "integer"),
    **dict.fromkeys(("float", "number"), "number"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
    **dict.fromkeys(("list", "array", "tuple"), "array"),
    **dict.fromkeys(("dict", "object"), "object"),
}


def toolrl(row: Row) -> Line:
    """ToolRL: system (tools and format in words), prompt (the dialogue so far), response (<think>, <tool_call>, <response>).

    The format's description is left out, since the chat template has its own, and so are the tools' default values,
    which the source has mixed up. The response is the completion; it is judged by its calls, none of which may be made
    where it is in words.
    """
    instructions, _, rest = text(row, "system").partition("**Available Tools**")
    listing, found, _ = rest.partition("**Steps for Each Turn**")
    listing = listing.partition("following tools:\n")[2].strip()
    if not found or not listing:
        raise ValueError("system: lists no tools between **Available Tools** and **Steps for Each Turn**")
    history = text(row, "prompt").removeprefix("**Dialogue Records History**")
    completion = _tagged(text(row, "response"), "response")
    if len(completion) != 1 or completion[0]["role"] != "assistant":
        raise ValueError("response: is not one turn of the assistant")
    tools = _listed_tools(listing)
    if len({tool["function"]["name"] for tool in tools}) < len(tools):
        raise LeftOut("two of its tools have one name")
    return with_id(row) | {
        "prompt": [{"role": "system", "content": instructions.strip()}, *_tagged(history, "prompt")],
        "completion": completion,
        "tools": tools,
        "grader": calls_grader(completion[0]),
    }


def _tagged(dialogue: str, name: str) -> list[Line]:
    """ToolRL's tags as messages: thoughts, calls and an answer in a row are one turn."""
    messages: list[Line] = []
    turn: dict[str, Any] = {}

    def end_turn() -> None:
        if turn:
            messages.append(assistant(turn.get("response", ""), turn.get("think", ""), turn.get("calls", [])))
            turn.clear()

    position = 0
    while position < len(dialogue):
        found = _SEGMENT.match(dialogue, position)
        if found is None:
            raise ValueError(f"{name}: text outside of its tags: {dialogue[position : position + 40]!r}")
        position = found.end()
        tag, content = found[1], found[2].strip()
        if tag in ("user", "obs", "think"):
            end_turn()
        if tag == "user":
            messages.append({"role": "user", "content": content})
        elif tag == "obs":
            messages += results(content, messages)
        elif tag == "tool_call":
            turn["calls"] = [parsed_call(line, name) for line in content.splitlines() if line.strip()]
        else:
            turn[tag] = content
    end_turn()
    return messages


def _listed_tools(listing: str) -> list[Line]:
    tools: list[Line] = []
    position = 0
    while position < len(listing):
        found = _LISTED_TOOL.match(listing, position)
        if found is None:
            raise ValueError(f"system: no tool in {listing[position : position + 40]!r}")
        position = found.end()
        parameters = json_object(found[3], f"system: parameters of {found[1]}")
        properties = {name: _property(value) for name, value in parameters.items()}
        function = {
            "name": found[1],
            "description": found[2],
            "parameters": {"type": "object", "properties": properties},
        }
        tools.append({"type": "function", "function": function})
    return tools


def _property(declared: Any) -> Line:
    """A parameter with a JSON schema's name of its Python type."""
    if not isinstance(declared, dict):
        raise ValueError("system: a parameter is no object")
    kind = declared.get("type")
    if isinstance(kind, str):
        python_type = re.split(r"[\[,]", kind)[0].strip().lower()
        kind = _JSON_TYPES.get(python_type, kind)
    return {"type": kind, "description": declared.get("description", "")}
