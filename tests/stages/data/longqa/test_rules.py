"""The rules' pairs: each answer is found where the quotation stands, only there, and not known without the document."""

import gzip
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from stages.common.data.text_tokenizer import TextTokenizer
from stages.data.longqa.pairs import NoPair, Pair, Passage
from stages.data.longqa.pieces import Piece, PieceRules, SourceText, pieces
from stages.data.longqa.quoting import DocumentIndex, flat, looks_like_code
from stages.data.longqa.rules import RulesWriter, write_pair
from tests.stages.data.longqa.conftest import chronicle
from tests.stages.data.longqa.oracle import look_up, quotation

DEMO = Path(__file__).parents[4] / "recipes/cpu/data"


def _rows(name: str, count: int) -> list[str]:
    with gzip.open(DEMO / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line, _ in zip(lines, range(count), strict=False)]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> TextTokenizer:
    return TextTokenizer.open(tokenizer_directory)


def _written(
    texts: list[str], tokenizer: TextTokenizer, *, chunk: int, cut: int | None, share: float, seed: int = 0
) -> list[tuple[Passage, Pair | NoPair]]:
    rules = PieceRules(tokenizer.directory, 256, chunk, share, seed, cut, False)
    found = [
        piece
        for number, text in enumerate(texts)
        for piece in pieces(SourceText("s", str(number), text), tokenizer, rules)
    ]
    passages = [Passage(piece, number) for piece in found for number in piece.sampled]
    return list(zip(passages, RulesWriter(seed).write(passages), strict=True))


@pytest.fixture(scope="module")
def books(tokenizer: TextTokenizer) -> list[tuple[Passage, Pair]]:
    """Pairs of five demo books as the CPU recipe makes them."""
    written = _written(_rows("books", 5), tokenizer, chunk=256, cut=3400, share=0.5)
    pairs = [(passage, pair) for passage, pair in written if isinstance(pair, Pair)]
    assert len(pairs) > 0.99 * len(written) > 1000
    return pairs


def test_a_reader_finds_every_answer_where_the_quotation_stands(books: list[tuple[Passage, Pair]]) -> None:
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for passage, pair in books:
        asked[pair.kind] += 1
        right[pair.kind] += look_up(passage.piece.text, pair.question, pair.kind) == pair.answer
    for kind in ("after", "before", "word", "name"):
        assert right[kind] == asked[kind] > 50, kind
    # Where a sentence ends is a matter of opinion now and then.
    assert right.total() >= 0.995 * asked.total()
    assert {"ending", "next_sentence", "number"} <= set(asked)


def test_answers_stand_in_the_chunk_and_the_quotation_nowhere_else(
    books: list[tuple[Passage, Pair]],
) -> None:
    for passage, pair in books:
        start, end = passage.piece.chunk_starts[passage.chunk : passage.chunk + 2]
        assert flat(pair.answer) in flat(passage.text)
        assert pair.answer.lower() not in quotation(pair.question).lower()
        without = passage.piece.text[:start] + " \n\n " + passage.piece.text[end:]
        assert look_up(without, pair.question, pair.kind) != pair.answer


def test_without_the_document_the_answers_are_not_known(books: list[tuple[Passage, Pair]]) -> None:
    """Guesses: by a trigram model of other books, and the answer of another pair of the kind."""
    guesser = _Trigrams(_rows("books", 12)[5:])
    guessed = sum(guesser.guess(pair) == pair.answer.lower() for _, pair in books)
    assert guessed <= 0.02 * len(books)
    rng = random.Random(0)
    by_kind = defaultdict(list)
    for _, pair in books:
        by_kind[pair.kind].append(pair.answer)
    borrowed = sum(
        rng.choice(by_kind[pair.kind]) == pair.answer for _, pair in books if len(by_kind[pair.kind]) > 20
    )
    assert borrowed <= 0.05 * len(books)


class _Trigrams:
    """The most frequent word after two words, after one, or at all."""

    def __init__(self, texts: list[str]) -> None:
        self._next: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for text in texts:
            words = [word.strip('.,;:!?"').lower() for word in text.split()]
            for first, second in pairwise(words):
                self._next[()][first] += 1
                self._next[(first,)][second] += 1
            for triple in zip(words, words[1:], words[2:], strict=False):
                self._next[triple[:2]][triple[2]] += 1

    def guess(self, pair: Pair) -> str:
        cue = quotation(pair.question).split("____")[0]
        words = [word.strip('.,;:!?"').lower() for word in cue.split()]
        said: list[str] = []
        for _ in pair.answer.split():
            context = next(
                tuple(words[len(words) - width :])
                for width in (2, 1, 0)
                if width <= len(words) and tuple(words[len(words) - width :]) in self._next
            )
            said.append(self._next[context].most_common(1)[0][0])
            words.append(said[-1])
        return " ".join(said)


def test_code_is_asked_about_by_line_and_definition(tokenizer: TextTokenizer) -> None:
    written = _written(_rows("code", 40), tokenizer, chunk=256, cut=None, share=0.3)
    pairs = [(passage, pair) for passage, pair in written if isinstance(pair, Pair)]
    assert len(pairs) > 0.97 * len(written) > 200
    kinds = Counter(pair.kind for _, pair in pairs)
    assert kinds["line"] + kinds["next_line"] + kinds["parameters"] > 0.7 * len(pairs)
    assert kinds["parameters"] > 5
    lookups = [
        look_up(passage.piece.text, pair.question, pair.kind) == pair.answer
        for passage, pair in pairs
        if pair.kind in ("line", "next_line", "parameters")
    ]
    assert sum(lookups) >= 0.97 * len(lookups)


def test_the_same_seed_gives_the_same_pairs_and_another_others(tokenizer: TextTokenizer) -> None:
    texts = [chronicle(1, 30)]
    first, again, other = (
        [pair for _, pair in _written(texts, tokenizer, chunk=64, cut=None, share=0.5, seed=seed)]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def _pieces_of(text: str, chunk_starts: tuple[int, ...]) -> Piece:
    return Piece("s", "p", 1, 1, text, 1000, chunk_starts, tuple(range(len(chunk_starts) - 1)), "0" * 32)


def test_a_chunk_that_says_nothing_of_its_own_gets_no_pair() -> None:
    twice = chronicle(1, 3)
    piece = _pieces_of(f"{twice}\n{twice}", (0, len(twice) + 1, 2 * len(twice) + 1))
    for pair in RulesWriter(0).write([Passage(piece, 0), Passage(piece, 1)]):
        assert pair == NoPair("nothing in it that occurs once in the document")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n" * 500,
        "1 " * 500,
        "....\n" * 300,
        "word " * 500,
        "\x00\x01\u2028" * 200,
        "_" * 999,
        '"`' * 400,
    ],
)
def test_a_text_without_anything_to_ask_is_no_error(text: str) -> None:
    assert isinstance(
        write_pair(Passage(_pieces_of(text, (0, len(text))), 0), DocumentIndex(text), random.Random(0)),
        NoPair,
    )


def _random_texts() -> Iterator[str]:
    rng = random.Random(5)
    alphabet = [
        "the ",
        "Ada ",
        "1893 ",
        '"',
        "`",
        "____",
        ". ",
        "\n",
        "\n\n",
        "def f(a, b):",
        "Ünïcode ",
        "İ",
        "ΟΔΟΣ ",
        "漢字。",
    ]
    for _ in range(300):
        yield "".join(rng.choices(alphabet, k=rng.randint(1, 150))) + "".join(
            chr(rng.choice((rng.randint(32, 0x2FFF), rng.randint(97, 122))))
            for _ in range(rng.randint(0, 60))
        )


def test_whatever_the_text_a_pair_is_one_line_each_and_its_answer_in_the_chunk() -> None:
    count = 0
    for text in _random_texts():
        middle = len(text) // 2
        for start in ((0, len(text)), (0, middle, len(text))):
            piece = _pieces_of(text, start)
            passages = [Passage(piece, number) for number in piece.sampled]
            for passage, pair in zip(passages, RulesWriter(3).write(passages), strict=True):
                if isinstance(pair, Pair):
                    count += 1
                    assert len(f"{pair.question}{pair.answer}".splitlines()) == 1
                    assert flat(pair.answer) in flat(passage.text)
    assert count > 100


def test_code_is_told_from_prose() -> None:
    code = sum(looks_like_code(text.split("\n")[:60]) for text in _rows("code", 40))
    prose = sum(looks_like_code(text.split("\n")[:60]) for text in _rows("books", 16))
    assert code >= 32
    assert prose == 0


def test_a_quotation_is_compared_without_case_and_white_space() -> None:
    index = DocumentIndex("The  old\nMill stood. the OLD mill fell. A new mill.")
    assert not index.occurs_once("the old mill")
    assert index.occurs_once("a NEW\tmill")
    assert not index.occurs_once("windmill")
    assert not index.occurs_once("")
    assert index.count("mill") == 3
