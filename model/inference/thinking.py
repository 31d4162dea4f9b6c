"""The thinking budget: a reasoning model may think for so many tokens, then its thinking is closed for it and it answers.

The rule is the report's (section 3.4). When the budget is used up the thinking is closed at the next newline, so that no
sentence is cut; if none comes within the grace, it is closed there. The model is never told the budget. A model that closes
its thinking by itself is left alone, and what comes after the first `</think>` is never touched.

What is put in keeps the format that models are trained on (docs/chat.md): the reasoning, a newline, `</think>`, a blank
line. Tokenizers may have one token for the tag or spell it in several: it is recognized in the text, and put in by tokens.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from model.chat.special_tokens import THINK_CLOSE, THINK_OPEN
from model.errors import UsageError
from model.inference.text import TextStream, overlap


@dataclass(frozen=True)
class ThinkingBudget:
    """tokens: of thinking, after which it is closed at the next newline; one in the last of them counts. grace: so many
    more may come until a newline does. Only generated tokens count, not thinking that the prompt begins with."""

    tokens: int
    grace: int = 500

    def __post_init__(self) -> None:
        for name, value in (("tokens", self.tokens), ("grace", self.grace)):
            if type(value) is not int or value < 0:
                raise UsageError(
                    f"{name} of a thinking budget is {value!r}", remedy="give a whole number, 0 or more"
                )


class ThinkingEnd(StrEnum):
    """Who closed the thinking."""

    MODEL = "model"
    BUDGET = "budget"
    UNFINISHED = "unfinished"


class ThinkingCloser:
    """How a tokenizer writes the end of the thinking. One serves all requests."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._after_newline = self._spell(f"{THINK_CLOSE}\n\n")
        self._after_text = self._spell(f"\n{THINK_CLOSE}\n\n")
        self._one_token = len(self._spell(THINK_CLOSE)) == 1

    def unfinished(self, prompt_ids: Sequence[int]) -> str:
        """The thinking that a prompt ends inside of, or the end of it. UsageError if it ends elsewhere."""
        window = 64
        while True:
            text = self.tokenizer.decode(list(prompt_ids[-window:]), skip_special_tokens=False)
            _, opened, thinking = text.rpartition(THINK_OPEN)
            if THINK_CLOSE in (thinking if opened else text) or (not opened and window >= len(prompt_ids)):
                raise UsageError(
                    "a thinking budget was given for a prompt that does not end inside of the thinking",
                    remedy=f"turn thinking on, so that the prompt ends in {THINK_OPEN}, or give no budget",
                )
            if opened:
                return str(thinking)
            window *= 2

    def ids(self, thinking: str, last_ids: Sequence[int]) -> list[int]:
        """The tokens that close `thinking`, which `last_ids` are the last tokens of. A tag that was begun is completed."""
        for begun in range(min(len(self._after_newline) - 1, len(last_ids)), 0, -1):
            if list(last_ids)[-begun:] == self._after_newline[:begun]:
                return self._after_newline[begun:]
        written = overlap(thinking, THINK_CLOSE)
        if written > 1 and not self._one_token:
            return self._spell(f"{THINK_CLOSE[written:]}\n\n")
        return self._after_newline if thinking.endswith("\n") else self._after_text

    def _spell(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if self.tokenizer.decode(ids, skip_special_tokens=False) != text:
            raise UsageError(
                f"the tokenizer cannot spell {text!r}, so thinking cannot be closed with it",
                where=str(self.tokenizer.name_or_path),
                remedy="generate without a thinking budget",
            )
        return ids


class ThinkingWatch:
    """Follows one request's tokens, counts them, and says which must come next.

    thinking_tokens: before the first that belongs to the closing tag, none of them put in. answer_tokens: behind the tag,
    the one that ends the request left out.
    """

    def __init__(self, budget: ThinkingBudget, closer: ThinkingCloser, prompt_ids: Sequence[int]) -> None:
        self._budget = budget
        self._closer = closer
        self._stream = TextStream(closer.tokenizer, skip_special_tokens=False)
        self._tail = closer.unfinished(prompt_ids)[-len(THINK_CLOSE) :]
        self._length = 0  # characters of text so far
        self._begins: list[int] = []  # where in it each thinking token begins
        self._last_ids: deque[int] = deque(maxlen=len(THINK_CLOSE))
        self._forced: deque[int] = deque()
        self.end = ThinkingEnd.UNFINISHED
        self.thinking_tokens = 0
        self.answer_tokens = 0
        self._closing = False
        if budget.tokens == 0:
            self._close()

    @property
    def forced(self) -> int | None:
        """The token that comes next whatever the model says; None leaves it to the model."""
        return self._forced[0] if self._forced else None

    def push(self, token_id: int, *, stop: bool) -> None:
        """The next token, which is `forced` if there is one. stop: it ends the request, and is no thought."""
        if self._forced:
            self._forced.popleft()
        if self.end is not ThinkingEnd.UNFINISHED:
            self.answer_tokens += not stop
            return
        if not (self._closing or stop):
            self._begins.append(self._length)
            self.thinking_tokens += 1
        self._last_ids.append(token_id)
        piece = self._stream.push(token_id)
        self._length += len(piece)
        text = self._tail + piece
        self._tail = text[-len(THINK_CLOSE) :]
        tag = text.find(THINK_CLOSE)
        if tag >= 0:
            self.end = ThinkingEnd.BUDGET if self._closing else ThinkingEnd.MODEL
            self.thinking_tokens = bisect_left(self._begins, self._length - len(text) + tag)
        elif not self._closing:
            over = self.thinking_tokens - self._budget.tokens
            if over >= self._budget.grace or (over >= 0 and "\n" in piece):
                self._close()

    def _close(self) -> None:
        self._closing = True
        thinking = self._tail + self._stream.finish()  # half a character too
        self._forced.extend(self._closer.ids(thinking, self._last_ids))
