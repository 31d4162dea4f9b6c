"""What a chat template does to texts, seen on a conversation in which every text is one marked word.

A template that writes an answer twice, drops tool calls or marks the user's words as the assistant's would spoil every
sample, so it is refused before the first.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from model.chat.template import TEMPLATE_REMEDY
from model.errors import ArtifactError
from stages.common.data.chat.encoding import Conversation, examine_conversation
from stages.common.data.chat.tokenizer import ChatTokenizer


@dataclass(frozen=True)
class _Word:
    """A marked word, whose text it is, and whether the assistant wrote it."""

    text: str
    whose: str
    by_assistant: bool = False


_SYSTEM = _Word("zsystemz", "the system message")
_TOOL = _Word("ztoolz", "the list of tools")
_OLD_USER = _Word("zearlierz", "an earlier user message")
_OLD_ANSWER = _Word("zoldanswerz", "an earlier answer of the assistant", by_assistant=True)
_USER = _Word("zuserz", "the user's message")
_CALL_REASONING = _Word("zcallreasonz", "the reasoning before a tool call", by_assistant=True)
_FIRST_CALL = _Word("zfirstcallz", "the first of two tool calls", by_assistant=True)
_SECOND_CALL = _Word("zsecondcallz", "the second of two tool calls", by_assistant=True)
_FIRST_RESULT = _Word("zfirstresultz", "the first of two tool results")
_SECOND_RESULT = _Word("zsecondresultz", "the second of two tool results")
_REASONING = _Word("zreasonz", "the assistant's reasoning", by_assistant=True)
_ANSWER = _Word("zanswerz", "the assistant's answer", by_assistant=True)


def _call(word: _Word) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "lookup", "arguments": {"key": word.text}}}


_TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {"name": "lookup", "description": _TOOL.text, "parameters": {"type": "object"}},
    }
]
_MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": _SYSTEM.text},
    {"role": "user", "content": _OLD_USER.text},
    {"role": "assistant", "content": _OLD_ANSWER.text, "reasoning_content": "old"},
    {"role": "user", "content": _USER.text},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": _CALL_REASONING.text,
        "tool_calls": [_call(_FIRST_CALL), _call(_SECOND_CALL)],
    },
    {"role": "tool", "content": _FIRST_RESULT.text},
    {"role": "tool", "content": _SECOND_RESULT.text},
    {"role": "assistant", "content": _ANSWER.text, "reasoning_content": _REASONING.text},
]
_TRAINED = (4, 7)
_WORDS = (
    *(_SYSTEM, _TOOL, _OLD_USER, _OLD_ANSWER, _USER),
    *(_FIRST_CALL, _SECOND_CALL, _FIRST_RESULT, _SECOND_RESULT, _ANSWER),
)
_WITH_THINKING = (*_WORDS, _CALL_REASONING, _REASONING)


def check_template(tokenizer: ChatTokenizer) -> None:
    """Refuses (ArtifactError) a template that no chat can be trained with."""
    where = str(tokenizer.directory / "chat_template.jinja")
    for thinking, words in ((True, _WITH_THINKING), (False, _WORDS)):
        conversation = Conversation(_MESSAGES, _TOOLS, thinking)
        examined = examine_conversation(tokenizer, conversation, _TRAINED, place=where)
        if examined.problem is not None:
            raise examined.problem
        encoded = conversation.encode(tokenizer)
        texts = {True: "", False: ""}
        for marked, run in groupby(
            zip(encoded.assistant_mask, encoded.ids, strict=True), key=lambda pair: pair[0]
        ):
            texts[marked] += tokenizer.chat.decode([token for _, token in run]) + "\n"
        for word in words:
            inside, outside = (texts[side].count(word.text) for side in (True, False))
            if what := _fault(word, inside, outside):
                raise ArtifactError(what, where=where, remedy=TEMPLATE_REMEDY)


def _fault(word: _Word, inside: int, outside: int) -> str:
    """inside, outside: how often the word is in what is marked as the assistant's and in the rest."""
    if not inside + outside:
        return f"the chat template leaves out {word.whose}"
    if inside + outside > 1:
        return f"the chat template writes {word.whose} {inside + outside} times"
    if inside != word.by_assistant:
        return f"the mask {'leaves out' if word.by_assistant else 'covers'} {word.whose}"
    return ""
