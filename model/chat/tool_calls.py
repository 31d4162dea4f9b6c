"""The JSON between `<TOOLCALL>` and `</TOOLCALL>`: a list of {"name": ..., "arguments": {...}}."""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: its number in the message from 0, the function's name, and the arguments as JSON text."""

    index: int
    name: str
    arguments: str


def parse_block(block: str, first_index: int = 0) -> tuple[ToolCall, ...]:
    """The calls of one block, numbered from `first_index`.

    Arguments keep the very text they were generated with; a JSON string gives the object inside it.
    Raises ValueError, in words fit for a user, unless the block is a list of at least one call.
    """
    try:
        elements, end = _members(block, _skip_space(block, 0), "[", "]")
        if end != len(block):
            raise ValueError(f"text after the list: {block[end : end + 40]!r}")
        calls = [_call(block, start) for _, start, _ in elements]
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not calls:
        raise ValueError("no call in the list")
    return tuple(ToolCall(first_index + i, name, text) for i, (name, text) in enumerate(calls))


def _call(block: str, start: int) -> tuple[str, str]:
    fields, _ = _members(block, start, "{", "}")
    spans = {name: (first, last) for name, first, last in fields}
    if len(spans) < len(fields):
        raise ValueError("a key stands twice in one call")
    if missing := [key for key in ("name", "arguments") if key not in spans]:
        raise ValueError(f"a call without {' and '.join(missing)}")
    name, _ = _decode(block, spans["name"][0])
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError("a call whose name is no printable text")
    text = block[slice(*spans["arguments"])]
    arguments, _ = _decode(text, 0)
    if isinstance(arguments, str):
        text = arguments.strip()
        arguments, end = _decode(text, 0)
        if end != len(text):
            raise ValueError(f"the arguments of {name} are no JSON object")
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments of {name} are no JSON object")
    return name, text


def _members(text: str, start: int, opening: str, closing: str) -> tuple[list[tuple[str, int, int]], int]:
    """The members of the JSON array or object at `start`, and where the text goes on after it.

    A member is its key ("" in an array) and the start and end of its value.
    """
    position = _expect(text, start, opening)
    members: list[tuple[str, int, int]] = []
    while not text.startswith(closing, position):
        if members:
            position = _expect(text, position, ",")
        key = ""
        if opening == "{":
            key, position = _decode(text, position)
            if not isinstance(key, str):
                raise ValueError("a key that is no text")
            position = _expect(text, _skip_space(text, position), ":")
        _, end = _decode(text, position)
        members.append((key, position, end))
        position = _skip_space(text, end)
    return members, _expect(text, position, closing)


def _expect(text: str, position: int, character: str) -> int:
    if not text.startswith(character, position):
        found = text[position : position + 20]
        raise ValueError(f"{character} expected at character {position}, found {found!r}")
    return _skip_space(text, position + 1)


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _decode(text: str, position: int) -> tuple[Any, int]:
    return _DECODER.raw_decode(text, position)
