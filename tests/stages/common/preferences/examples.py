"""Pairs of every form."""

from typing import Any

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **fields}


def calling(**arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "look", "arguments": arguments}}
    return said("", tool_calls=[call])


def result(text: str) -> dict[str, Any]:
    return {"role": "tool", "content": text}


TEXTS = {"prompt": [user("What is 2 + 2?")], "chosen": "It is four.", "rejected": "It is five, or six."}
REASONED = {
    "prompt": [{"role": "system", "content": "Be brief."}, user("What is 2 + 2?")],
    "chosen": [said("Four.", reasoning_content="Two and two.")],
    "rejected": [said("Five.")],
    "strength": 3,
    "id": 7,
}
TOOL_LOOPS = {
    "prompt": [user("Hello"), said("Hi", reasoning_content="Greet."), user("Where is the wheel?")],
    "chosen": [calling(thing="wheel"), result("by the stove"), said("By the stove.")],
    "rejected": [said("Nobody knows.")],
    "tools": TOOLS,
}
WITHIN_A_LOOP = {
    "prompt": [user("Where is the wheel?"), calling(thing="wheel"), result("by the stove")],
    "chosen": "By the stove.",
    "rejected": [calling(thing="wheel"), result("by the stove"), said("I cannot tell.")],
    "tools": TOOLS,
    "metadata": {"source": "tests"},
}
PAIRS: dict[str, dict[str, Any]] = {
    "texts": TEXTS,
    "reasoned": REASONED,
    "tool loops": TOOL_LOOPS,
    "within a loop": WITHIN_A_LOOP,
}
