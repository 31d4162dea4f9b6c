"""A simulated service: a state in JSON, and tools that read or change it."""

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from stages.data.synth.dice import Dice

State = dict[str, Any]


class ToolFault(Exception):
    """A call that the service refuses; its text is what the caller is told."""


@dataclass(frozen=True)
class Argument:
    """A required argument of a tool: a text or an integer, perhaps one of a few texts."""

    type: str
    description: str
    choices: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": self.type, "description": self.description}
        return {**schema, "enum": list(self.choices)} if self.choices else schema

    def takes(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return type(value) is (int if self.type == "integer" else str)


def text(description: str, *choices: str) -> Argument:
    return Argument("string", description, choices)


def integer(description: str) -> Argument:
    return Argument("integer", description)


class Service(ABC):
    """Subclasses say what `tools` there are, and have a method of the same name for each of them.

    A method takes the arguments by name, returns what JSON can hold, and raises ToolFault before it has changed anything.
    """

    prompt: ClassVar[str]
    """What the assistant is told about its post."""

    tools: ClassVar[dict[str, tuple[str, dict[str, Argument]]]]
    """Description and arguments by name."""

    def __init__(self, state: State) -> None:
        self.state = state

    @classmethod
    @abstractmethod
    def new(cls, dice: Dice) -> State:
        """A state without the things that wishes are about."""

    @classmethod
    @abstractmethod
    def furnish(cls, state: State, dice: Dice) -> None:
        """Add something that no wish is about."""

    @classmethod
    def schemas(cls) -> list[dict[str, Any]]:
        """The tools in OpenAI's form."""
        return [
            {
                "type": "function",
                "function": {
                    "name": name,
                    "description": description,
                    "parameters": {
                        "type": "object",
                        "properties": {key: argument.schema for key, argument in arguments.items()},
                        "required": list(arguments),
                    },
                },
            }
            for name, (description, arguments) in cls.tools.items()
        ]

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """What the tool returns, or `{"error": ...}`, after which the state is as before."""
        try:
            if name not in self.tools:
                raise ToolFault(f"there is no tool {name}")
            wanted = self.tools[name][1]
            for key in wanted:
                if key not in arguments:
                    raise ToolFault(f"the argument {key} is missing")
            for key, value in arguments.items():
                if key not in wanted:
                    raise ToolFault(f"{name} has no argument {key}")
                if not wanted[key].takes(value):
                    raise ToolFault(f"{value!r} is no value for {key}")
            method: Callable[..., Any] = getattr(self, name)
            return copy.deepcopy(method(**arguments))
        except ToolFault as fault:
            return {"error": str(fault)}


def check_service(service: type[Service]) -> None:
    """Raise TypeError if a tool and its method do not have the same arguments."""
    for name, (_, arguments) in service.tools.items():
        parameters = list(inspect.signature(getattr(service, name)).parameters)[1:]
        if parameters != list(arguments):
            raise TypeError(
                f"{service.__name__}.{name} takes {parameters}, its schema says {list(arguments)}"
            )
