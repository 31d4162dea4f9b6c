"""Single tokens as text and bytes, as the log-probabilities of the API show them."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from model.inference.sampling import LikelyTokens
from model.inference.text import TextStream


class TokenTexts:
    """`tokenizer` is a fast tokenizer of transformers. A token may be a part of a character."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added: dict[int, str] = {
            index: str(token) for index, token in tokenizer.added_tokens_decoder.items()
        }
        self._byte_level = type(tokenizer.backend_tokenizer.decoder).__name__ == "ByteLevel"
        self.bytes = cache(self._bytes)

    def text(self, token_id: int) -> str:
        """Bytes that are no text become replacement characters."""
        return self.bytes(token_id).decode("utf-8", "replace")

    def key(self, token_id: int) -> str:
        """The same for whole characters, else the bytes by name, so that two tokens have two keys."""
        data = self.bytes(token_id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def chat_entry(self, token_id: int, logprob: float, likely: LikelyTokens) -> dict[str, Any]:
        """One token of a chat's `logprobs.content`."""
        top = [self._entry(other, value) for other, value in likely]
        return {**self._entry(token_id, logprob), "top_logprobs": top}

    def stream(self, *, special: bool) -> TextStream:
        """For the offsets of tokens in a text, with or without its special tokens."""
        return TextStream(self._tokenizer, skip_special_tokens=not special)

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        return {"token": self.text(token_id), "logprob": logprob, "bytes": list(self.bytes(token_id))}

    def _bytes(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._tokenizer.convert_ids_to_tokens(token_id)
        if token is None:  # a row of the embedding that the tokenizer has no token for
            return b""
        if self._byte_level:
            return bytes(_BYTE_OF[character] for character in token)
        return str(self._tokenizer.decode([token_id], skip_special_tokens=False)).encode()


_BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}


class TextLogprobs:
    """The `logprobs` of a text completion, which grow token by token. Offsets count characters of the choice's text."""

    def __init__(self, texts: TokenTexts) -> None:
        self._texts = texts
        self._sent = 0
        self.tokens: list[str] = []
        self.token_logprobs: list[float | None] = []
        self.top_logprobs: list[dict[str, float] | None] = []
        self.text_offset: list[int] = []

    def add(self, token_id: int, logprob: float | None, likely: LikelyTokens, offset: int) -> None:
        """The token itself is always among its likeliest ones, as clients of this API expect."""
        self.tokens.append(self._texts.key(token_id))
        self.token_logprobs.append(logprob)
        top = (
            None if logprob is None else {self._texts.key(other): value for other, value in reversed(likely)}
        )
        if top is not None and logprob is not None and token_id not in dict(likely):
            top[self._texts.key(token_id)] = logprob
        self.top_logprobs.append(top)
        self.text_offset.append(offset)

    def since_last(self) -> dict[str, Sequence[Any]]:
        """What was added since this was last asked."""
        start, self._sent = self._sent, len(self.tokens)
        return self._from(start)

    def all(self) -> dict[str, Sequence[Any]]:
        return self._from(0)

    def _from(self, start: int) -> dict[str, Sequence[Any]]:
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        return {name: getattr(self, name)[start:] for name in names}
