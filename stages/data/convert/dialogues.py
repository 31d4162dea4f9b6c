"""Formats of dialogues with tools: one function each, from a row to a line of chat jsonl."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stages.data.convert.rows import LeftOut, field, objects, text
from stages.data.convert.tool_tables import REACT_TOOLS, TASKMASTER_TOOLS
from stages.data.convert.turns import (
    assistant,
    calls_grader,
    json_object,
    named_call,
    parsed_call,
    result,
    results,
    with_id,
)

Row = Mapping[str, Any]
Line = dict[str, Any]

_ACTION = re.compile(r"(Search|Lookup|Finish)\[(.*)\]", re.DOTALL)


def reason_tool_use(row: Row) -> Line:
    """LLaMA-Factory's reasoning with tools: messages whose parts are text, reasoning and tool_call, and tools."""
    messages: list[Line] = []
    for index, message in enumerate(objects(row, "messages")):
        where = f"messages[{index}]"
        parts: dict[str, list[str]] = {"text": [], "reasoning": [], "tool_call": []}
        for part in objects(message, "content"):
            kind = text(part, "type")
            if kind not in parts:
                raise ValueError(f"{where}: a part is of the unknown type {kind!r}")
            parts[kind].append(text(part, "value"))
        content = "\n\n".join(parts["text"])
        role = text(message, "role")
        if role == "tool":
            messages += results(content, messages)
        elif role == "assistant":
            calls = [parsed_call(call, where) for call in parts["tool_call"]]
            messages.append(assistant(content, "\n\n".join(parts["reasoning"]), calls))
        else:
            messages.append({"role": role, "content": content})
    last = {"grader": calls_grader(messages[-1])} if messages and "tool_calls" in messages[-1] else {}
    return with_id(row) | {"messages": messages, "tools": field(row, "tools", list)} | last


def glaive(row: Row) -> Line:
    """Glaive function calling: tools, and messages with the roles tool_call (JSON text) and tool_response."""
    return with_id(row) | {
        "messages": _dialogue(objects(row, "messages")),
        "tools": [{"type": "function", "function": tool} for tool in objects(row, "tools")],
    }


def taskmaster4(row: Row) -> Line:
    """Taskmaster-4's coffee orders, with API calls. Tools are described in `TASKMASTER_TOOLS`: the source does not.

    In some dialogues the menu is shown late, after the next request, so that the result has no call before it: it gets the
    call of show_menu, which takes nothing. A dialogue that ends with a result ends with its call instead.
    """
    messages: list[Row] = []
    for message in objects(row, "messages"):
        role = message.get("role")
        orphaned = role == "tool_response" and not (messages and messages[-1].get("role") == "tool_call")
        if orphaned and message.get("name") == "show_menu":
            messages.append({"role": "tool_call", "name": "show_menu", "arguments": {}})
        messages.append(message)
    while messages and messages[-1].get("role") == "tool_response":
        messages.pop()
    about = {"metadata": {"scenario": row["scenario"]}} if "scenario" in row else {}
    return with_id(row) | {"messages": _dialogue(messages), "tools": TASKMASTER_TOOLS} | about


def react_hotpotqa(row: Row) -> Line:
    """ReAct on HotpotQA: question, and steps of thought, action (Search, Lookup, Finish) and observation.

    Only runs that finished with the right answer (reward 1) are kept.
    """
    steps = objects(row, "steps")
    messages: list[Line] = [{"role": "user", "content": text(row, "question")}]
    for number, step in enumerate(steps):
        action = _ACTION.fullmatch(text(step, "action"))
        if action is None:
            raise ValueError(f"steps[{number}].action: is no Search[...], Lookup[...] or Finish[...]")
        thought, observation = text(step, "thought"), field(step, "observation", str).strip()
        if action[1] == "Finish":
            if "reward = 1" not in observation:
                raise LeftOut("the answer was wrong")
            messages.append(assistant(action[2], thought, []))
            break
        call = {"name": action[1].lower(), "arguments": {"text": action[2]}}
        messages += [assistant("", thought, [call]), result(observation)]
    else:
        raise LeftOut("no answer was reached")
    return with_id(row) | {"messages": messages, "tools": REACT_TOOLS}


def xlam(row: Row) -> Line:
    """xLAM function calling: query, tools and answers, the latter two lists as JSON text."""
    called = [named_call(call, "answers") for call in _json_list(row, "answers")]
    answer = assistant("", "", called)
    return with_id(row) | {
        "messages": [{"role": "user", "content": text(row, "query")}, answer],
        "tools": [{"type": "function", "function": tool} for tool in _json_list(row, "tools")],
        "grader": calls_grader(answer),
    }


def _dialogue(messages: Sequence[Row]) -> list[Line]:
    """Messages of user, assistant, tool_call and tool_response in OpenAI's form."""
    converted: list[Line] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = text(message, "role")
        if role == "tool_call":
            call = (
                named_call(message, where)
                if "name" in message
                else parsed_call(message.get("content"), where)
            )
            if converted and converted[-1]["role"] == "assistant" and "tool_calls" in converted[-1]:
                converted[-1]["tool_calls"] += assistant("", "", [call])["tool_calls"]
            else:
                converted.append(assistant("", "", [call]))
        elif role == "tool_response":
            if message.get("content") is None:
                raise ValueError(f"{where}.content: is missing")
            converted.append(result(message["content"]))
        else:
            converted.append({"role": role, "content": text(message, "content")})
    return converted


def _json_list(row: Row, key: str) -> list[Line]:
    value = row.get(key)
    if isinstance(value, str):
        return objects(json_object(f'{{"{key}": {value}}}', key), key)
    return objects(row, key)
