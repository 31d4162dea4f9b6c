"""What a language model replied, read as a question-answer pair or refused with the reason."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from model.chat.parsers import parse
from stages.data.longqa.pairs import NoPair, Pair
from stages.data.longqa.quoting import flat

LONGEST_QUESTION = 600
LONGEST_ANSWER = 600
_LONGEST_REPLY = 100_000  # characters; beyond it nobody looks for JSON


def parse_reply(reply: str, excerpt: str, *, cut_off: bool = False) -> Pair | NoPair:
    """The pair in the first JSON object that has a question and an answer; thinking before it is passed over.

    An answer has to stand in the excerpt (letter case and white space make no difference), and the question must not
    hold it already: a pair that cannot be looked up would teach to make things up. `cut_off`: the reply had to end.
    """
    if len(reply) > _LONGEST_REPLY:
        return NoPair("the reply is far too long")
    said = parse(reply).content
    fields = _fields(said)
    if fields is None and cut_off:
        return NoPair("the reply was cut off at --reply-tokens")
    if not said:
        return NoPair("the reply is empty")
    if fields is None:
        return NoPair('the reply has no JSON object with "question" and "answer"')
    if not all(isinstance(value, str) for value in fields):
        return NoPair("question or answer is no text")
    question, answer = map(flat, fields)
    if not (question and answer):
        return NoPair("question or answer is empty")
    if len(question) > LONGEST_QUESTION or len(answer) > LONGEST_ANSWER:
        return NoPair("question or answer is too long")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in question + answer):
        return NoPair("question or answer holds characters that are no text")
    if answer.casefold() in question.casefold():
        return NoPair("the question gives the answer away")
    if answer.rstrip(".").casefold() not in flat(excerpt).casefold():
        return NoPair("the answer does not stand in the excerpt")
    return Pair(question, answer, "written")


def _fields(text: str) -> tuple[Any, Any] | None:
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            found, _ = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and "question" in found and "answer" in found:
            return found["question"], found["answer"]
        at = text.find("{", at + 1)
    return None
