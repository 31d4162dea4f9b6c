"""lm-eval's texts as tokens, in the way of its `hf` backend, but many at a time.

A text gets the tokenizer's begin-of-text token, unless it begins with one already. A rendered chat gets none: its template
writes every control token, and what the model was trained on has no other (`hf` does so with `add_bos_token=False`). The
spaces at the end of a context belong to the continuation; the seam is found by encoding both together and the context alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from model.errors import ArtifactError


class RequestEncoder:
    """`prefix_id` stands before a text that has no context: begin-of-text, or end-of-text where there is no such token.

    chat: the texts are rendered chats.
    """

    def __init__(self, tokenizer: Any, *, chat: bool = False) -> None:
        prefix_id = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        if prefix_id is None:
            raise ArtifactError(
                "the tokenizer names neither a bos_token nor an eos_token",
                where=str(tokenizer.name_or_path),
                remedy="name one of them in tokenizer_config.json",
            )
        self.prefix_id: int = prefix_id
        self._tokenizer = tokenizer
        self._chat = chat
        self._prefix: str = tokenizer.decode(prefix_id)

    def encode(self, texts: Sequence[str], add_special_tokens: bool | None = None) -> list[list[int]]:
        """Token ids of each text. `add_special_tokens` None: as the module says."""
        encoded: list[list[int]] = [[]] * len(texts)
        for special in (True, False):
            chosen = [
                index for index, text in enumerate(texts) if self._adds(text, add_special_tokens) is special
            ]
            if chosen:
                ids = self._tokenizer(
                    [texts[index] for index in chosen],
                    add_special_tokens=special,
                    return_attention_mask=False,
                    verbose=False,
                )["input_ids"]
                for index, tokens in zip(chosen, ids, strict=True):
                    encoded[index] = tokens
        return encoded

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Tokens of each (context, continuation). The context's are never empty; the continuation's are empty only if
        its text is."""
        seams = [_without_trailing_space(context, continuation) for context, continuation in pairs]
        whole = self._table(context + continuation for context, continuation in seams if context)
        contexts = self._table(context for context, _ in seams if context)
        alone = self._table((continuation for context, continuation in pairs if not context), special=False)
        encoded = []
        for pair, (context, continuation) in zip(pairs, seams, strict=True):
            if not pair[0]:
                encoded.append(self._after_prefix(alone[pair[1]]))
            elif not context:  # nothing but spaces, which are the continuation's now
                encoded.append(self._after_prefix(self.encode([continuation], False)[0]))
            else:
                encoded.append(_split(whole[context + continuation], len(contexts[context]), continuation))
        return encoded

    def _adds(self, text: str, add_special_tokens: bool | None) -> bool:
        if add_special_tokens is not None:
            return add_special_tokens
        return not self._chat and not text.startswith(self._prefix)

    def _table(self, texts: Iterable[str], special: bool | None = None) -> dict[str, list[int]]:
        distinct = list(dict.fromkeys(texts))
        return dict(zip(distinct, self.encode(distinct, special), strict=True))

    def _after_prefix(self, tokens: list[int]) -> tuple[list[int], list[int]]:
        if tokens[:1] == [self.prefix_id]:
            return tokens[:1], tokens[1:]
        return [self.prefix_id], tokens


def _without_trailing_space(context: str, continuation: str) -> tuple[str, str]:
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


def _split(whole: list[int], seam: int, continuation: str) -> tuple[list[int], list[int]]:
    """Where the continuation melts into the context's last token, that token is what is scored."""
    if seam >= len(whole) and continuation:
        seam = len(whole) - 1
    return whole[:seam], whole[seam:]
