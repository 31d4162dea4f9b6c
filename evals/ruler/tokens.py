"""How many tokens a text has: exactly, and fast for the pieces that long texts are put together from."""

from collections.abc import Iterable, Sequence
from typing import Any

from model.errors import ArtifactError

_ANCHOR = "a\n"
"""What stands before a piece that is counted: no tokenizer that splits at line ends merges the two."""


class TokenCounter:
    """Counts with one tokenizer. ArtifactError if it makes no tokens of English words."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._kept: dict[str, int] = {}
        if self._lengths(["The quick brown fox"], special=False)[0] == 0:
            raise ArtifactError(
                "the tokenizer makes no tokens of English text",
                where=str(getattr(tokenizer, "name_or_path", "")),
                remedy="give a directory with a whole tokenizer.json",
            )
        self._anchor = self._lengths([_ANCHOR], special=False)[0]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, with those that the tokenizer puts around a text."""
        return self._lengths(texts, special=True)

    def pieces(self, texts: Sequence[str]) -> list[int]:
        """About how many tokens each text has inside of a longer one, where it begins a line or follows a word; one or
        more."""
        return [
            max(length - self._anchor, 1)
            for length in self._lengths([_ANCHOR + text for text in texts], special=False)
        ]

    def kept_pieces(self, texts: Iterable[str]) -> list[int]:
        """The same, of texts that come again: each is counted once."""
        texts = list(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        self._kept.update(zip(new, self.pieces(new), strict=True))
        return [self._kept[text] for text in texts]

    def words(self, words: Iterable[str]) -> list[int]:
        """Of words that come again, each with the space before it."""
        return self.kept_pieces(f" {word}" for word in words)

    def _lengths(self, texts: Sequence[str], special: bool) -> list[int]:
        if not texts:
            return []
        encoded = self._tokenizer(
            list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False
        )
        return [len(ids) for ids in encoded["input_ids"]]
