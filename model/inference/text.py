"""Generated tokens as text, piece by piece: never half a character, and nothing from a stop string on.

Every piece that is given out is final.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

REPLACEMENT = "\ufffd"
"""What a decoder shows for bytes that are not, or not yet, a character."""


class TextStream:
    """Decodes tokens as they come. The pieces joined are the decoded text of all tokens.

    `tokenizer` is one of transformers' fast tokenizers.
    """

    def __init__(self, tokenizer: Any, *, skip_special_tokens: bool = True) -> None:
        self._decode = partial(tokenizer.backend_tokenizer.decode, skip_special_tokens=skip_special_tokens)
        self._ids: list[int] = []
        self._start = (
            0  # decoding begins here: some decoders drop a space at the start of what they are given
        )
        self._settled = 0  # tokens up to here end in a whole character
        self._shown = 0  # characters of the tokens after `_start` that were given out

    def push(self, token_id: int) -> str:
        """The text that this token completes; may be empty."""
        self._ids.append(token_id)
        text = self._decode(self._ids[self._start :])
        # A character of up to four bytes may be unfinished at the very end, never before it.
        ready = text.removesuffix(REPLACEMENT)
        piece = ready[self._shown :]
        self._shown = max(self._shown, len(ready))
        if len(ready) == len(text):
            before = self._decode(self._ids[self._settled :])
            self._start, self._settled = self._settled, len(self._ids)
            self._shown = len(before)
        return piece

    def finish(self) -> str:
        """What is left when no token comes any more: the replacement character of an unfinished one."""
        text = self._decode(self._ids[self._start :])
        return str(text[self._shown :])


class StopStrings:
    """Lets text through up to the first stop string. What may become one is held back until that is decided.

    With `after`, stop strings count only behind its first occurrence and the white space there: a blank line ends an
    answer, but neither the reasoning before it nor the answer before it has begun.
    """

    def __init__(self, strings: Sequence[str], after: str = "") -> None:
        self._strings = [string for string in strings if string]
        self._after = after
        self._begun = not after
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that no stop string can take back any more. `stopped` tells whether one was met."""
        if self.stopped:
            return ""
        self._held += text
        passed = ""
        if self._after:
            before, marker, behind = self._held.partition(self._after)
            if not marker:
                return self._release(len(self._held) - overlap(self._held, self._after))
            passed, self._held, self._after = before + marker, behind, ""
        if not self._begun:
            passed += self._release(len(self._held) - len(self._held.lstrip()))
            self._begun = bool(self._held)
        found = [place for string in self._strings if (place := self._held.find(string)) >= 0]
        if found:
            self.stopped = True
            return passed + self._release(min(found))
        held = max((overlap(self._held, string) for string in self._strings), default=0)
        return passed + self._release(len(self._held) - held)

    def finish(self) -> str:
        """What was held back, when no text comes any more."""
        return "" if self.stopped else self._release(len(self._held))

    def _release(self, length: int) -> str:
        released, self._held = self._held[:length], self._held[length:]
        return released


def overlap(text: str, word: str) -> int:
    """How many characters at the end of `text` are the beginning of `word`, but not all of it."""
    for length in range(min(len(word) - 1, len(text)), 0, -1):
        if text.endswith(word[:length]):
            return length
    return 0
