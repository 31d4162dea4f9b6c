"""Cutting loses nothing and keeps to its limits; chunks cover a piece; sampling depends on the text and the seed."""

from dataclasses import replace
from pathlib import Path

import pytest

from stages.common.data.text_tokenizer import TextTokenizer
from stages.data.longqa.pieces import ENDS, PieceRules, SourceText, cut, pieces
from tests.stages.data.longqa.conftest import chronicle

ODD_TEXTS = {
    "prose": chronicle(1, 40),
    "one line": chronicle(2, 40).replace("\n", " "),
    "no space at all": "abcdefghij" * 900,
    "white space": " \n\t \n" * 800,
    "chinese": "春江潮水连海平。海上明月共潮生！" * 120,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 300,
    "windows lines": chronicle(3, 30).replace("\n", "\r\n"),
    "code": "def f(a, b):\n    return a + b\n\n\n" * 200,
}


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> TextTokenizer:
    return TextTokenizer.open(tokenizer_directory)


@pytest.mark.parametrize("name", ODD_TEXTS)
@pytest.mark.parametrize("limit", [64, 300])
def test_cutting_loses_nothing_and_keeps_to_the_limit(
    tokenizer: TextTokenizer, name: str, limit: int
) -> None:
    text = ODD_TEXTS[name]
    parts = cut(text, tokenizer, limit)
    assert "".join(part for part, _ in parts) == text
    assert len(parts) > 1
    for part, starts in parts:
        encoded = tokenizer.encode_documents([part])[0]
        assert len(encoded) == len(starts) + ENDS <= limit
    lengths = [len(starts) for _, starts in parts[:-1]]
    assert min(lengths) > limit * 0.4


def test_parts_end_where_paragraphs_end(tokenizer: TextTokenizer) -> None:
    parts = [part for part, _ in cut(chronicle(1, 40), tokenizer, 600)]
    assert all(part.endswith("\n\n") for part in parts[:-1])
    assert all(part.startswith("On day") for part in parts)


def test_without_a_limit_or_below_it_nothing_is_cut(tokenizer: TextTokenizer) -> None:
    text = chronicle(1, 5)
    tokens = len(tokenizer.encode_documents([text])[0])
    for limit in (None, tokens):
        assert [part for part, _ in cut(text, tokenizer, limit)] == [text]
    assert len(cut(text, tokenizer, tokens - 1)) == 2
    assert [part for part, _ in cut("", tokenizer, 64)] == [""]


def _rules(tokenizer: TextTokenizer, **settings: object) -> PieceRules:
    rules = PieceRules(tokenizer.directory, 256, 64, 0.25, 0, None, False)
    return replace(rules, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_chunks_cover_the_text_and_have_their_length(tokenizer: TextTokenizer, name: str) -> None:
    (piece,) = pieces(SourceText("s", "p", ODD_TEXTS[name]), tokenizer, _rules(tokenizer))
    chunks = [piece.chunk(number) for number in range(piece.chunks)]
    assert "".join(chunks) == piece.text == ODD_TEXTS[name]
    assert abs(piece.chunks - (piece.tokens - ENDS) / 64) <= 0.5
    lengths = [len(tokenizer.encode_documents([chunk])[0]) - ENDS for chunk in chunks]
    assert all(56 <= length <= 72 for length in lengths[:-1])
    assert 28 <= lengths[-1] <= 100


@pytest.mark.parametrize(("share", "expected"), [(0.001, 1), (0.25, None), (1.0, None)])
def test_the_sample_is_the_share_without_repetition(
    tokenizer: TextTokenizer, share: float, expected: int | None
) -> None:
    (piece,) = pieces(SourceText("s", "p", ODD_TEXTS["prose"]), tokenizer, _rules(tokenizer, share=share))
    assert len(piece.sampled) == len(set(piece.sampled)) == (expected or round(share * piece.chunks))
    assert set(piece.sampled) <= set(range(piece.chunks))


def test_the_sample_follows_from_text_and_seed_and_from_nothing_else(tokenizer: TextTokenizer) -> None:
    rules = _rules(tokenizer)

    def sampled(text: str, place: str, rules: PieceRules) -> tuple[int, ...]:
        return pieces(SourceText("s", place, text), tokenizer, rules)[0].sampled

    text = ODD_TEXTS["prose"]
    first = sampled(text, "a", rules)
    assert first == sampled(text, "b", rules)
    assert first != sampled(text, "a", replace(rules, seed=1))
    assert first != sampled(text + "And so on.", "a", rules)
    assert list(first) != sorted(first)


def test_short_ones_have_no_chunks_and_their_text_only_if_kept(tokenizer: TextTokenizer) -> None:
    document = SourceText("s", "p", chronicle(1, 1))
    (piece,) = pieces(document, tokenizer, _rules(tokenizer))
    assert (piece.chunks, piece.sampled, piece.text) == (0, (), "")
    assert 16 < piece.tokens < 256
    (kept,) = pieces(document, tokenizer, _rules(tokenizer, keep_short=True))
    assert kept.text == document.text
    (whole,) = pieces(document, tokenizer, _rules(tokenizer, min_tokens=piece.tokens))
    assert len(whole.sampled) == 1
