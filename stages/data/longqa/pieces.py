"""Long documents, cut into pieces where they are too long, and the chunks of each that get a pair.

Lengths in tokens are those of a packed document: with `<s>` and `</s>`.
"""

from __future__ import annotations

import hashlib
import random
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.common.data.text_tokenizer import TextTokenizer
from stages.data.longqa.config import LongqaConfig

ENDS = 2  # <s> and </s>
# Where a text is best cut, best first: at the end of a paragraph, a line, a sentence, a word.
_BOUNDARIES = (
    re.compile(r"\n[ \t\r]*\n\s*"),
    re.compile(r"\n"),
    re.compile(r"[.!?][\"'”’)]*\s+|[。！？]"),
    re.compile(r"\s+"),
)


@dataclass(frozen=True)
class SourceText:
    """A document as it was read: `source` is the name of its source, `place` its file and line there."""

    source: str
    place: str
    text: str


@dataclass(frozen=True)
class Piece:
    """A document, or one of the `count` pieces of a longer one (`number` counts from 1).

    tokens: of `text` as it would be packed. chunk_starts: character offsets of the chunks, and the text's length
    last. sampled: the chunks that get a pair, in the order in which the pairs will stand; none where the piece is
    shorter than `min_tokens`. digest: of the text, 32 hexadecimal digits.
    """

    source: str
    place: str
    number: int
    count: int
    text: str
    tokens: int
    chunk_starts: tuple[int, ...] = ()
    sampled: tuple[int, ...] = ()
    digest: str = ""

    @property
    def chunks(self) -> int:
        return max(len(self.chunk_starts) - 1, 0)

    def chunk(self, number: int) -> str:
        return self.text[self.chunk_starts[number] : self.chunk_starts[number + 1]]


@dataclass(frozen=True)
class PieceRules:
    """The settings that decide on pieces and chunks, as `LongqaConfig` has them."""

    tokenizer: Path
    min_tokens: int
    chunk_tokens: int
    share: float
    seed: int
    document_tokens: int | None
    keep_short: bool

    @classmethod
    def of(cls, config: LongqaConfig) -> PieceRules:
        return cls(
            config.tokenizer,
            config.min_tokens,
            config.chunk_tokens,
            config.share,
            config.seed,
            config.document_tokens,
            config.keep_short,
        )


def piece_maker(rules: PieceRules) -> Callable[[Sequence[SourceText]], list[list[Piece]]]:
    """The pieces of each document of a batch, for `parallel_map`; the text of a short one only if it is to be kept."""
    return partial(_pieces_of_batch, TextTokenizer.open(rules.tokenizer), rules)


def _pieces_of_batch(
    tokenizer: TextTokenizer, rules: PieceRules, batch: Sequence[SourceText]
) -> list[list[Piece]]:
    return [pieces(document, tokenizer, rules) for document in batch]


def pieces(document: SourceText, tokenizer: TextTokenizer, rules: PieceRules) -> list[Piece]:
    """The pieces of a document in order; their texts joined are its text (where short ones are kept)."""
    texts = cut(document.text, tokenizer, rules.document_tokens)
    return [
        _piece(document, number, len(texts), text, starts, rules)
        for number, (text, starts) in enumerate(texts, start=1)
    ]


def cut(text: str, tokenizer: TextTokenizer, limit: int | None) -> list[tuple[str, list[int]]]:
    """`text` in parts of at most `limit` tokens each, and the character at which each token of a part starts.

    A part ends at the end of a paragraph, if there is one in its second half, else of a line, a sentence or a word.
    """
    starts = _token_starts(text, tokenizer)
    if limit is None or len(starts) + ENDS <= limit:
        return [(text, starts)]
    parts: list[tuple[str, list[int]]] = []
    first = 0  # character at which the next part starts
    while first < len(text):
        token = bisect_left(starts, first)
        room = limit - ENDS
        while True:
            end = len(text)
            if token + room < len(starts):
                end = _best_end(text, first, max(starts[token + room], first + 1))
            part = _token_starts(text[first:end], tokenizer)
            excess = len(part) + ENDS - limit
            if excess <= 0 or room == 1:
                break
            room = max(
                room - excess, 1
            )  # by itself, a part may take a token or two more than within the whole
        parts.append((text[first:end], part))
        first = end
    return parts


def _token_starts(text: str, tokenizer: TextTokenizer) -> list[int]:
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    return [start for start, _ in encoding.offsets]


def _best_end(text: str, first: int, latest: int) -> int:
    """The best place to end a part of `text` that starts at `first`: in its second half, at `latest` at the latest."""
    for boundary in _BOUNDARIES:
        ends = [match.end() for match in boundary.finditer(text, (first + latest + 1) // 2, latest)]
        if ends:
            return ends[-1]
    return latest


def _piece(
    document: SourceText, number: int, count: int, text: str, starts: list[int], rules: PieceRules
) -> Piece:
    tokens = len(starts) + ENDS
    if tokens < rules.min_tokens:
        return Piece(document.source, document.place, number, count, text if rules.keep_short else "", tokens)
    chunk_starts = _chunk_starts(starts, rules.chunk_tokens, len(text))
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    chunks = len(chunk_starts) - 1
    # Chosen by the text itself, so that other documents have no say in it.
    rng = random.Random(f"{rules.seed} {digest}")
    sampled = rng.sample(range(chunks), max(1, round(rules.share * chunks)))
    return Piece(
        document.source,
        document.place,
        number,
        count,
        text,
        tokens,
        tuple(chunk_starts),
        tuple(sampled),
        digest,
    )


def _chunk_starts(starts: Sequence[int], chunk_tokens: int, length: int) -> list[int]:
    """Where chunks of `chunk_tokens` start, and the end. A rest below half a chunk joins the last."""
    chunks = max(1, (len(starts) + chunk_tokens // 2) // chunk_tokens)
    firsts = (starts[chunk * chunk_tokens] for chunk in range(1, chunks))
    inner = sorted({first for first in firsts if 0 < first < length})
    return [0, *inner, length]
