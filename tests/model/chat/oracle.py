"""A second renderer of the chat format in plain Python, written from docs/chat.md to check the template."""

import json
import re
from typing import Any

SWITCH = re.compile(r"(?<!\S)/(no_)?think(?!\S)\s?")

TOOLS_HEAD = "You can use the following tools where they help the user:\n"
TOOLS_TAIL = (
    "\n\nCall them with one list, each call with its name and arguments:\n"
    '<TOOLCALL>[{"name": "tool_name", "arguments": {"parameter": "value"}}]</TOOLCALL>\n\n'
    "Their results come back in the order of the calls:\n<TOOL_RESPONSE>[result, result]</TOOL_RESPONSE>\n\n"
    "Then call again, repair a call that failed, or answer."
)


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if content is None:
        return ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def switches_in(messages: list[dict[str, Any]]) -> list[bool]:
    return [
        found[1] is None
        for message in messages
        if message["role"] in ("system", "user")
        for found in SWITCH.finditer(text_of(message))
    ]


def visible(message: dict[str, Any]) -> str:
    return SWITCH.sub("", text_of(message)).strip()


def calls_text(message: dict[str, Any]) -> str:
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function", call)
        arguments = function.get("arguments") or {}
        arguments = arguments.strip() if isinstance(arguments, str) else dumps(arguments)
        calls.append(f'{{"name": {dumps(function["name"])}, "arguments": {arguments}}}')
    return f"<TOOLCALL>[{', '.join(calls)}]</TOOLCALL>"


def generated(message: dict[str, Any], thinking: bool, in_episode: bool) -> str:
    """What the model wrote in this turn, after the prefill and up to the stop token."""
    content = text_of(message).strip()
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        reasoning = message.get("reasoning")
    is_raw = reasoning is None and ("</think>" in content or content.startswith("<think>"))
    answer = content
    if is_raw:
        _, closing, answer = content.rpartition("</think>")
        answer = answer.strip() if closing else ""
    blocks = []
    if in_episode and thinking:
        if is_raw:
            blocks = [content.removeprefix("<think>").strip()]
        else:
            thought = (reasoning or "").strip()
            blocks = [f"{thought}\n</think>" if thought else "</think>"]
            blocks += [answer] if answer else []
    elif answer:
        blocks = [answer]
    if message.get("tool_calls"):
        blocks.append(calls_text(message))
    return "\n\n".join(blocks) + "\n<SPECIAL_12>"


def render(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    thinking: bool | None = None,
    add_generation_prompt: bool = False,
) -> tuple[str, list[str]]:
    """The whole text, and what each assistant turn generated of it."""
    if thinking is None:
        thinking = [True, *switches_in(messages)][-1]
    prefill = "<think>\n" if thinking else "<think></think>"
    has_system = messages[0]["role"] == "system"
    system = [visible(messages[0])] if has_system and visible(messages[0]) else []
    if tools:
        listed = ", ".join(dumps(tool.get("function", tool)) for tool in tools)
        system.append(f"{TOOLS_HEAD}<AVAILABLE_TOOLS>[{listed}]</AVAILABLE_TOOLS>{TOOLS_TAIL}")
    turns = ["<SPECIAL_10>System\n" + "\n\n".join(system) + "\n"]
    generations = []
    last_user = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    results: list[str] = []
    for i, message in enumerate(messages):
        if message["role"] == "user":
            turns.append(f"<SPECIAL_11>User\n{visible(message)}\n")
        elif message["role"] == "assistant":
            generations.append(generated(message, thinking, i > last_user))
            start = prefill if i > last_user else ""
            turns.append(f"<SPECIAL_11>Assistant\n{start}{generations[-1]}\n")
        elif message["role"] == "tool":
            content = message["content"]
            results.append(dumps(content) if isinstance(content, dict) else text_of(message))
            if i + 1 == len(messages) or messages[i + 1]["role"] != "tool":
                turns.append(f"<SPECIAL_11>User\n<TOOL_RESPONSE>[{', '.join(results)}]</TOOL_RESPONSE>\n")
                results = []
    if add_generation_prompt:
        turns.append(f"<SPECIAL_11>Assistant\n{prefill}")
    return "".join(turns), generations
