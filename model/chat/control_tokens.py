"""Control tokens whose names stand in a user's text, and how they are kept from being control tokens.

A tokenizer turns the text `<SPECIAL_12>` into token 12 wherever it stands. So before a template is rendered,
each such name in a message is broken by a character that occurs nowhere else, and the rendered text is
encoded in the pieces between the breaks.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model.chat.special_tokens import THINK_CLOSE, THINK_OPEN
from model.errors import ArtifactError

MessageMapping = Mapping[str, Any]
ToolMapping = Mapping[str, Any]

_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


def break_control_names(
    messages: Sequence[MessageMapping], tools: Sequence[ToolMapping] | None, control_names: Sequence[str]
) -> tuple[Sequence[MessageMapping], Sequence[ToolMapping] | None, str]:
    """Put a break character after the first character of each of the names in messages and tools.

    Names have at least two characters, so that no piece between breaks holds a whole one. Returns the new
    messages and tools and the break character, or "" where there was nothing to break. Thinking tags in the
    content of an assistant message without a reasoning field stay: it may be a raw generation.
    """
    if not control_names:
        return messages, tools, ""
    messages = [_with_joined_parts(message) for message in messages]
    everything = json.dumps([messages, tools], ensure_ascii=False, default=str)
    if not any(name in everything for name in control_names):
        return messages, tools, ""
    break_character = next((c for c in _NONCHARACTERS if c not in everything), None)
    if break_character is None:
        raise ArtifactError(
            "the messages use all 32 of U+FDD0 to U+FDEF",
            where="chat",
            remedy="remove these characters, which Unicode reserves for internal use",
        )
    every_name = _starts_of(control_names)
    no_thinking_tag = _starts_of(name for name in control_names if name not in (THINK_OPEN, THINK_CLOSE))

    def broken(value: Any, starts: re.Pattern[str]) -> Any:
        if isinstance(value, str):
            return starts.sub(rf"\g<0>{break_character}", value)
        if isinstance(value, Mapping):
            return {broken(key, starts): broken(item, starts) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [broken(item, starts) for item in value]
        return value

    def broken_message(message: MessageMapping) -> MessageMapping:
        safe: dict[str, Any] = broken(message, every_name)
        if message.get("role") == "assistant" and _reasoning(message) is None:
            safe["content"] = broken(message.get("content"), no_thinking_tag)
        return safe

    return [broken_message(message) for message in messages], broken(tools, every_name), break_character


def _reasoning(message: MessageMapping) -> Any:
    reasoning = message.get("reasoning_content")
    return message.get("reasoning") if reasoning is None else reasoning


def _starts_of(names: Iterable[str]) -> re.Pattern[str]:
    """Matches the first character of each name in a text, also of names that overlap."""
    alternatives = "|".join(map(re.escape, names)) or "(?!)"
    return re.compile(f"(?=(?:{alternatives})).", re.DOTALL)


def _with_joined_parts(message: MessageMapping) -> MessageMapping:
    """Content given as text parts as one text, so that a name split over two parts is seen whole."""
    parts = message.get("content")
    if not isinstance(parts, (list, tuple)) or not all(
        isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in parts
    ):
        return message  # text already, or something that the template refuses
    return {**message, "content": "".join(part["text"] for part in parts)}
