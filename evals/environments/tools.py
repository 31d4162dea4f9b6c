"""Tools over tables, and a session in which they are called with whatever a model makes up."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evals.environments.tables import Tables


class Refusal(Exception):
    """A call that fails; its text is what the caller is told. Raised before anything is changed."""


@dataclass(frozen=True)
class Argument:
    """An argument, always a text. choices: the texts that it may be; none: any. A needed one must not be empty."""

    needed: bool = True
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tool:
    """run: takes the tables and the arguments given by name; returns a message or what JSON can hold; raises Refusal.

    changes: it may change the tables.
    """

    arguments: Mapping[str, Argument]
    changes: bool
    run: Callable[..., Any]


class ToolSession:
    """Tables of one's own and the tools over them."""

    def __init__(self, tools: Mapping[str, Tool], tables: Tables) -> None:
        self.tools = tools
        self.tables = tables.copy()

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The tool's answer: a message as it is, anything else as JSON. Never raises for what a model can write."""
        try:
            return self.attempt(name, arguments)
        except Refusal as refusal:
            return str(refusal)

    def attempt(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The same as `call`, but a call that fails raises Refusal."""
        tool = self.tools.get(name) if isinstance(name, str) else None
        if tool is None:
            raise Refusal(f"There is no tool {shown(name)}.")
        answer = tool.run(self.tables, **_checked(tool, name, arguments))
        return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def shown(value: object) -> str:
    """A value of any kind in a few printable characters, for a message."""
    text = ascii(value[:60]) if isinstance(value, str) else f"of the type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."


def _checked(tool: Tool, name: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """The arguments that were given (null is one that was not), or Refusal."""
    if not isinstance(arguments, Mapping):
        raise Refusal("The arguments are no object.")
    given = {key: value for key, value in arguments.items() if value is not None}
    for key, value in given.items():
        if key not in tool.arguments:
            raise Refusal(f"{name} has no argument {shown(key)}.")
        if not isinstance(value, str):
            raise Refusal(f"{key} must be a text.")
        if not _is_text(value):
            raise Refusal(f"{key} holds half of a surrogate pair.")
    for key, argument in tool.arguments.items():
        if argument.needed and not given.get(key):
            raise Refusal(f"{key} is missing.")
        if argument.choices and given.get(key) and given[key] not in argument.choices:
            raise Refusal(f"{key} must be one of {', '.join(argument.choices)}.")
    return given


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
