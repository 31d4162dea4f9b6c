"""The episodes of a chat, and whether the assistant thinks in one: asked by training and evaluation alike, so that a model
is asked in the mode that it was trained in."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from model.chat.messages import Message

_SWITCH = re.compile(r"(?<!\S)/(no_)?think(?!\S)")  # as the template finds them


def episodes_of(messages: Sequence[Message]) -> list[range]:
    """The positions of each episode: a user message and all up to the next one.

    A system message belongs to the first. What the assistant says before the first user message is an episode of its own.
    """
    starts = [index for index, message in enumerate(messages) if message.role == "user"]
    if any(message.role == "assistant" for message in messages[: starts[0] if starts else None]):
        starts = [0, *starts]
    starts[:1] = [0]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(messages)], strict=True)]


class Thinking(NamedTuple):
    """told: what the template is told as `thinking`; None leaves it to the switches. on: what comes of it."""

    told: bool | None
    on: bool


def thinking_of(said: bool | None, messages: Sequence[Message], turns: Iterable[int]) -> Thinking:
    """Whether the assistant thinks in the last episode of `messages`.

    What the chat itself says goes first (`said`, its `thinking`), then the last `/think` or `/no_think` of its system and
    user messages. Without either, thinking is on if one of `turns`, the positions of the turns to be generated in that
    episode, has reasoning: with it on and none there, they would teach the model to close its thinking at once.
    """
    if said is not None:
        return Thinking(said, said)
    switches = [
        found[1] is None
        for message in messages
        if message.role in ("system", "user")
        for found in _SWITCH.finditer(message.text)
    ]
    if switches:
        return Thinking(None, switches[-1])
    reasons = any(messages[index].trace for index in turns)
    return Thinking(reasons, reasons)
