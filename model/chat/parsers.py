"""Incremental parser of an assistant's generated text into thinking, answer and tool calls.

Pure functions over an immutable state:

    state = start(thinking=True)                  # True: the prompt ended in "<think>\n"
    state, events = feed(state, text)             # any number of times, split anywhere
    state, events = finish(state)

Any split of a text gives the same message as the whole of it, and time is linear in the text. The parser
works on text because released tokenizers spell the tags in several tokens.

`<think>` opens reasoning and `</think>` closes it. `<TOOLCALL>` in the answer opens a block of JSON, which
ends at the first `</TOOLCALL>` outside of a JSON string; inside reasoning it is text. Reasoning and answer
lose the white space at their ends. docs/chat.md says what becomes of malformed text.
"""

import codecs
import re
from dataclasses import dataclass, field, replace
from enum import Enum

from model.chat.events import (
    ContentDelta,
    Defect,
    Event,
    Events,
    Malformed,
    ParsedMessage,
    ReasoningDelta,
    coalesce,
    collect,
)
from model.chat.special_tokens import THINK_CLOSE, THINK_OPEN, TOOL_CALL_CLOSE, TOOL_CALL_OPEN
from model.chat.tool_calls import parse_block


class Phase(Enum):
    REASONING = "reasoning"
    CONTENT = "content"
    TOOL_CALL = "tool call"
    FINISHED = "finished"


Rope = tuple[str, ...]
"""A growing text in pieces of falling length, so that appending n characters one by one costs O(n log n)."""


def append(rope: Rope, text: str) -> Rope:
    """The rope with `text` at its end: pieces that are no longer than what follows are joined with it."""
    if not text:
        return rope
    while rope and len(rope[-1]) <= len(text):
        rope, text = rope[:-1], rope[-1] + text
    return (*rope, text)


@dataclass(frozen=True, slots=True)
class Channel:
    """Reasoning or answer: whether it has begun, and its last white space, which counts if text follows."""

    begun: bool = False
    space: Rope = ()


class Json(Enum):
    """Where in its JSON a tool-call block is; BROKEN: no JSON can come of it, and only tags count."""

    OUTSIDE_STRING = 0
    IN_STRING = 1
    BROKEN = 2


@dataclass(frozen=True, slots=True)
class ParserState:
    """All that is remembered between two pieces of text."""

    phase: Phase
    tools: bool = True  # <TOOLCALL> opens a block; else it is text
    held: str = ""  # the start of what may become a tag or an escape: at most 10 characters
    held_bytes: bytes = b""  # the start of a character: at most 3 bytes
    thought: bool = False  # a thinking block has been opened
    reasoning: Channel = field(default_factory=Channel)
    content: Channel = field(default_factory=Channel)
    block: Rope = ()
    json: Json = Json.OUTSIDE_STRING
    n_calls: int = 0


def start(*, thinking: bool, tools: bool = True) -> ParserState:
    """The state before any text. `thinking`: the prompt ended inside thinking, in `<think>` and a newline. `tools` False:
    there are none to call, and tags of tool calls are text."""
    return ParserState(Phase.REASONING if thinking else Phase.CONTENT, tools, thought=thinking)


def feed(state: ParserState, text: str) -> tuple[ParserState, Events]:
    """Take the next piece of text. Raises ValueError after `finish`."""
    if state.phase is Phase.FINISHED:
        raise ValueError("the message is finished")
    run = _Run(state)
    run.read(state.held + text)
    return run.state, tuple(run.events)


def feed_bytes(state: ParserState, data: bytes) -> tuple[ParserState, Events]:
    """Take the next bytes of UTF-8: a split character waits for its rest, an invalid byte becomes U+FFFD."""
    data = state.held_bytes + data
    text, used = codecs.utf_8_decode(data, "replace", False)
    return feed(replace(state, held_bytes=data[used:]), text)


def finish(state: ParserState) -> tuple[ParserState, Events]:
    """The text has ended: let go what was held, report what is open. Raises ValueError the second time."""
    tail, _ = codecs.utf_8_decode(state.held_bytes, "replace", True)
    state, events = feed(replace(state, held_bytes=b""), tail)
    run = _Run(state)
    run.end(state.held)
    return run.state, coalesce([*events, *run.events])


def parse(text: str, *, thinking: bool = False) -> ParsedMessage:
    """A whole generated text at once: `feed` and `finish`. `thinking` as for `start`."""
    state, events = feed(start(thinking=thinking), text)
    _, last_events = finish(state)
    return collect(events + last_events)


_TAGS = (THINK_OPEN, THINK_CLOSE, TOOL_CALL_OPEN, TOOL_CALL_CLOSE)
_JSON_LANDMARK = {
    Json.OUTSIDE_STRING: re.compile(r'["<]'),
    Json.IN_STRING: re.compile(r'["\\\x00-\x1f]'),  # JSON allows no raw control character in a string
    Json.BROKEN: re.compile("<"),
}


class _Run:
    """The work on one piece of text: the state as it changes, and the events so far."""

    def __init__(self, state: ParserState) -> None:
        self.state = replace(state, held="")
        self.events: list[Event] = []

    def read(self, text: str) -> None:
        position = 0
        while position < len(text):
            step = self._read_json if self.state.phase is Phase.TOOL_CALL else self._read_text
            position = step(text, position)
        self.events = list(coalesce(self.events))

    def end(self, held: str) -> None:
        """`held` turned out to be no tag."""
        match self.state.phase:
            case Phase.TOOL_CALL:
                raw = "".join(self.state.block) + held
                self.events.append(Malformed(Defect.UNCLOSED_TOOL_CALL, raw=raw))
            case Phase.REASONING:
                self._say(held)
                self.events.append(Malformed(Defect.UNCLOSED_THINK))
            case Phase.CONTENT:
                self._say(held)
        self.state = replace(self.state, phase=Phase.FINISHED, block=())

    def _read_text(self, text: str, position: int) -> int:
        """Read reasoning or answer up to and with the next tag; returns the new position."""
        tag: str | None = ""
        at = text.find("<", position)
        while at >= 0 and (tag := self._tag_at(text, at)) == "":
            at = text.find("<", at + 1)
        if at < 0:
            self._say(text[position:])
            return len(text)
        self._say(text[position:at])
        if not tag:
            return len(text)
        self._obey(tag)
        return at + len(tag)

    def _read_json(self, text: str, position: int) -> int:
        """Read a tool-call block up to and with the next landmark; returns the new position."""
        landmark = _JSON_LANDMARK[self.state.json].search(text, position)
        if landmark is None:
            self._keep(text[position:])
            return len(text)
        at = landmark.start()
        if landmark[0] == "<":
            self._keep(text[position:at])
            return self._read_tag_in_json(text, at)
        if landmark[0] == "\\":
            if at + 1 == len(text):
                self._keep(text[position:at])
                self.state = replace(self.state, held="\\")
                return len(text)
            self._keep(text[position : at + 2])
            return at + 2
        self._keep(text[position : at + 1])
        if landmark[0] == '"':
            in_string = self.state.json is Json.IN_STRING
            self.state = replace(self.state, json=Json.OUTSIDE_STRING if in_string else Json.IN_STRING)
        else:
            self.state = replace(self.state, json=Json.BROKEN)
        return at + 1

    def _read_tag_in_json(self, text: str, at: int) -> int:
        tag = self._tag_at(text, at)
        if tag is None:
            return len(text)
        if tag == TOOL_CALL_CLOSE:
            self._close_block()
        elif tag == TOOL_CALL_OPEN:
            self.events.append(Malformed(Defect.UNCLOSED_TOOL_CALL, raw="".join(self.state.block)))
            self.state = replace(self.state, block=(), json=Json.OUTSIDE_STRING)
        else:  # JSON has no "<" outside of a string
            self._keep(tag or "<")
            self.state = replace(self.state, json=Json.BROKEN)
        return at + (len(tag) or 1)

    def _tag_at(self, text: str, at: int) -> str | None:
        """The tag that begins at `at`, or "". None: the text ends too early to tell, and its end is held."""
        for tag in _TAGS:
            if text.startswith(tag, at):
                return tag
        rest = text[at : at + len(TOOL_CALL_CLOSE)]
        if any(tag.startswith(rest) for tag in _TAGS):
            self.state = replace(self.state, held=rest)
            return None
        return ""

    def _obey(self, tag: str) -> None:
        phase = self.state.phase
        if tag == THINK_OPEN:
            if self.state.thought or self.state.content.begun or self.state.n_calls:
                self.events.append(Malformed(Defect.REPEATED_THINK))
            self.state = replace(self.state, phase=Phase.REASONING, thought=True)
        elif phase is Phase.REASONING and tag == THINK_CLOSE:
            self.state = replace(self.state, phase=Phase.CONTENT)
        elif phase is Phase.REASONING:
            self._say(tag)
        elif tag == THINK_CLOSE:
            self.events.append(Malformed(Defect.STRAY_THINK_CLOSE))
        elif not self.state.tools:
            self._say(tag)
        elif tag == TOOL_CALL_CLOSE:
            self.events.append(Malformed(Defect.STRAY_TOOL_CALL_CLOSE))
        else:
            self.state = replace(self.state, phase=Phase.TOOL_CALL, block=(), json=Json.OUTSIDE_STRING)

    def _close_block(self) -> None:
        raw = "".join(self.state.block)
        try:
            calls = parse_block(raw, self.state.n_calls)
        except ValueError as error:
            calls = ()
            self.events.append(Malformed(Defect.INVALID_TOOL_CALL, str(error), raw))
        self.events += calls
        self.state = replace(
            self.state, phase=Phase.CONTENT, block=(), n_calls=self.state.n_calls + len(calls)
        )

    def _keep(self, text: str) -> None:
        self.state = replace(self.state, block=append(self.state.block, text))

    def _say(self, text: str) -> None:
        """Give text to reasoning or answer, less the white space that may turn out to be at an end of it."""
        reasoning = self.state.phase is Phase.REASONING
        channel = self.state.reasoning if reasoning else self.state.content
        core = text.rstrip()
        if core:
            space = append((), text[len(core) :])
            core = "".join(channel.space) + core if channel.begun else core.lstrip()
            self.events.append(ReasoningDelta(core) if reasoning else ContentDelta(core))
            channel = Channel(begun=True, space=space)
        elif channel.begun:
            channel = Channel(begun=True, space=append(channel.space, text))
        self.state = (
            replace(self.state, reasoning=channel) if reasoning else replace(self.state, content=channel)
        )
