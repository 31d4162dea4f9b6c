"""Preference pairs as jsonl: what a line is, and reading it with every defect named.

    {"prompt": [messages], "chosen": [messages], "rejected": [messages], "tools": [...], "thinking": true, "strength": 1.0,
     "id": "...", "metadata": {...}}

`chosen` and `rejected` are two continuations of one prompt: a text (one message of the assistant), or messages of the
assistant and of its tools.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from evals.chat_lines import SUFFIXES, ChatSample, Line, TextOrMessages, parse_line
from model.chat.episodes import thinking_of
from model.chat.messages import Message, check_conversation
from model.errors import ArtifactError
from model.text_lines import json_lines

SideName = Literal["chosen", "rejected"]
SIDES: tuple[SideName, SideName] = ("chosen", "rejected")


class PairSample(Line):
    """One line. strength: how much better the chosen side is; what it does is the stage's own (docs/reward.md)."""

    prompt: list[Message]
    chosen: TextOrMessages
    rejected: TextOrMessages
    strength: float = Field(1.0, gt=0, allow_inf_nan=False)

    def side(self, name: SideName) -> list[Message]:
        """The messages of one side."""
        said = getattr(self, name)
        return [Message(role="assistant", content=said)] if isinstance(said, str) else said

    def sample(self, name: SideName) -> ChatSample:
        """Prompt and one side as a chat. Both sides think or do not think: their prompt is one and the same.

        Without `thinking` and without switches thinking is on if either side has reasoning.
        """
        sides = [message for each in SIDES for message in self.side(each)]
        messages = [*self.prompt, *sides]
        turns = [
            index
            for index, message in enumerate(messages)
            if index >= len(self.prompt) and message.role == "assistant"
        ]
        told = thinking_of(self.thinking, messages, turns).told
        chat = ChatSample(prompt=self.prompt, completion=self.side(name), tools=self.tools, thinking=told)
        return chat.at(f"{self.place} ({name})")

    @model_validator(mode="after")
    def _check(self) -> "PairSample":
        if not self.prompt:
            raise ValueError("prompt: is empty")
        if all(message.role == "system" for message in self.prompt):
            raise ValueError("prompt: says nothing but the system message, so there is nothing to answer")
        for name in SIDES:
            _check_side(name, self.side(name))
            check_conversation([*self.prompt, *self.side(name)], f"prompt+{name}")
        self._check_tools()
        return self


def _check_side(name: SideName, messages: Sequence[Message]) -> None:
    if not messages:
        raise ValueError(f"{name}: is empty")
    for index, message in enumerate(messages):
        if message.role not in ("assistant", "tool"):
            raise ValueError(
                f"{name}[{index}].role: is {message.role}; a side is what the assistant and its tools say, "
                "all else is prompt"
            )
        if message.role == "assistant" and message.is_empty:
            raise ValueError(f"{name}[{index}]: has neither an answer nor a tool call")
    for index, where in ((0, "begins"), (-1, "ends")):
        if messages[index].role != "assistant":
            raise ValueError(f"{name}: {where} with a tool result, not with a turn of the assistant")


def read_pairs(path: Path) -> Iterator[PairSample]:
    """The pairs of one jsonl, each with its place ("FILE line 12").

    Raises:
        ArtifactError: unreadable or truncated, or a line that is no pair, with file, line and field named.
    """
    if not path.name.endswith(SUFFIXES):
        raise ArtifactError(
            "is no jsonl of pairs",
            where=str(path),
            remedy=f"give a {' or '.join(SUFFIXES)} file; docs/dpo.md",
        )
    for row, place in json_lines(path):
        yield parse_pair(row, place)


def parse_pair(row: dict[str, Any], place: str) -> PairSample:
    """One line's object as a pair. ArtifactError with the field named if it is none."""
    return parse_line(PairSample, row, place, page="docs/dpo.md")


Likeness = Literal["identical", "white space", ""]


def likeness(pair: PairSample, *, reasoning: bool) -> Likeness:
    """Whether the sides say the same, letter for letter or apart from white space; without `reasoning` it does not count."""
    chosen, rejected = (_said(pair.side(name), reasoning) for name in SIDES)
    if chosen == rejected:
        return "identical"
    squeezed = ([" ".join(text.split()) for text in said] for said in (chosen, rejected))
    return "white space" if next(squeezed) == next(squeezed) else ""


def _said(messages: Sequence[Message], reasoning: bool) -> list[str]:
    """All texts of a side, in order; arguments as one form of JSON, since their layout says nothing."""
    texts: list[str] = []
    for message in messages:
        texts += [message.role, message.trace if reasoning else "", message.answer]
        for call in message.tool_calls or ():
            arguments = call.function.arguments
            parsed = (
                (json.loads(arguments) if arguments.strip() else {})
                if isinstance(arguments, str)
                else arguments
            )
            texts += [call.function.name, json.dumps(parsed)]
    return texts
