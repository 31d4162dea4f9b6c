"""What the parser tells of a generated message, piece by piece, and the message that it adds up to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import Any

from model.chat.tool_calls import ToolCall


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of one of the two texts of a message."""

    text: str


class ReasoningDelta(TextDelta):
    """More of the reasoning."""


class ContentDelta(TextDelta):
    """More of the answer."""


class Defect(StrEnum):
    """What can be wrong with a generated message."""

    UNCLOSED_THINK = "thinking was not closed by </think>"
    REPEATED_THINK = "<think> after thinking or the answer had begun"
    STRAY_THINK_CLOSE = "</think> outside of thinking"
    UNCLOSED_TOOL_CALL = "<TOOLCALL> was not closed by </TOOLCALL>"
    STRAY_TOOL_CALL_CLOSE = "</TOOLCALL> without <TOOLCALL>"
    INVALID_TOOL_CALL = "a <TOOLCALL> block is not a JSON list of calls"


@dataclass(frozen=True, slots=True)
class Malformed:
    """A defect; of a tool-call block that gave no calls also its whole text, and what is wrong in it."""

    defect: Defect
    detail: str = ""
    raw: str = ""


Event = ReasoningDelta | ContentDelta | ToolCall | Malformed
Events = tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """A whole assistant message."""

    reasoning: str
    content: str
    tool_calls: tuple[ToolCall, ...]
    problems: tuple[Malformed, ...]

    @property
    def well_formed(self) -> bool:
        """Nothing is wrong with it; where thinking was on, it was closed exactly once."""
        return not self.problems

    def as_message(self) -> dict[str, Any]:
        """The message in the form that the chat template takes (OpenAI's, less the ids of tool calls)."""
        message = {"role": "assistant", "content": self.content, "reasoning_content": self.reasoning}
        if not self.tool_calls:
            return message
        calls = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in self.tool_calls
        ]
        return {**message, "tool_calls": calls}


def collect(events: Iterable[Event]) -> ParsedMessage:
    """The message that the events tell of."""
    events = tuple(events)
    return ParsedMessage(
        reasoning="".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        content="".join(event.text for event in events if isinstance(event, ContentDelta)),
        tool_calls=tuple(event for event in events if isinstance(event, ToolCall)),
        problems=tuple(event for event in events if isinstance(event, Malformed)),
    )


def joined(turns: Sequence[ParsedMessage]) -> ParsedMessage:
    """One message of the turns of an episode: the last one's reasoning and content, all their calls, numbered on, and all
    their problems."""
    calls = [call for turn in turns for call in turn.tool_calls]
    return ParsedMessage(
        reasoning=turns[-1].reasoning,
        content=turns[-1].content,
        tool_calls=tuple(replace(call, index=number) for number, call in enumerate(calls)),
        problems=tuple(problem for turn in turns for problem in turn.problems),
    )


def coalesce(events: Iterable[Event]) -> Events:
    """The same events with each run of deltas of one kind as one delta."""
    merged: list[Event] = []
    for kind, run in groupby(events, type):
        if kind in (ReasoningDelta, ContentDelta):
            merged.append(kind("".join(event.text for event in run if isinstance(event, TextDelta))))
        else:
            merged += run
    return tuple(merged)
