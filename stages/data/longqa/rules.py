"""The rule-based writer: questions about a quotation that stands once in the whole document.

A pair is a cue, quoted, and what the document says beside it. A cue that occurs a second time anywhere, in whatever
case, is not used, so the chunk is the only place from which the answer can be had. The same text and seed give the
same pairs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from stages.data.longqa.pairs import NoPair, Pair, Passage
from stages.data.longqa.quoting import (
    PUNCTUATION,
    DocumentIndex,
    Sentence,
    flat,
    lines,
    looks_like_code,
    paragraphs,
)
from stages.data.longqa.wording import BLANK, QUESTIONS, words

TRIES = 24  # places looked at for a kind of question
_LONGEST_ANSWER = 160
_COMMON = 5  # a word that a document has more often is too easily guessed
_FIGURE = re.compile(r"[+-]?\d[\d.,:/]{0,15}")
_DEFINITION = re.compile(r"\b(?:def|fn|func|function)\s+([A-Za-z_]\w*)\s*\(([^()]+)\)")


@dataclass(frozen=True)
class Candidate:
    """cue: as quoted in the question. anchors: texts of which one, at least, has to occur once in the document."""

    cue: str
    answer: str
    anchors: tuple[str, ...]
    n: str = ""


class RulesWriter:
    name = "rules"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def write(self, passages: Iterable[Passage]) -> Iterator[Pair | NoPair]:
        digest, index = "", DocumentIndex("")
        for passage in passages:
            if passage.piece.digest != digest:
                digest, index = passage.piece.digest, DocumentIndex(passage.piece.text)
            yield write_pair(passage, index, random.Random(f"{self._seed} {digest} {passage.chunk}"))


def write_pair(passage: Passage, index: DocumentIndex, rng: random.Random) -> Pair | NoPair:
    """A pair of a kind drawn at random: for code about lines, for prose about sentences, if these kinds allow one."""
    text, start, end = (
        passage.piece.text,
        *passage.piece.chunk_starts[passage.chunk : passage.chunk + 2],
    )
    own_lines = lines(text, start, end)
    own_paragraphs = paragraphs(text, start, end)
    parts = [part for paragraph in own_paragraphs for part in paragraph]
    whole = [part for part in parts if part.whole]
    about_lines: dict[str, Callable[[], Iterator[Candidate]]] = {
        "parameters": lambda: _parameters(own_lines, rng),
        "line": lambda: _line(own_lines, rng),
        "next_line": lambda: _next_line(own_lines, rng),
    }
    about_sentences: dict[str, Callable[[], Iterator[Candidate]]] = {
        "after": lambda: _beside(parts, rng, after=True),
        "before": lambda: _beside(parts, rng, after=False),
        "ending": lambda: _ending(whole, rng),
        "next_sentence": lambda: _next_sentence(own_paragraphs, rng),
        "word": lambda: _gap(parts, rng, index, _is_rare_word),
        "name": lambda: _gap(parts, rng, index, _is_name),
        "number": lambda: _gap(parts, rng, index, _is_number),
    }
    groups = [about_sentences, about_lines]
    if looks_like_code(own_lines):
        groups.reverse()
    for group in groups:
        quotation_mark = "`" if group is about_lines else '"'
        for kind in rng.sample(list(group), len(group)):
            for candidate in group[kind]():
                if _is_fit(candidate, index, quotation_mark):
                    wording = rng.choice(QUESTIONS[kind])
                    return Pair(wording.format(cue=candidate.cue, n=candidate.n), candidate.answer, kind)
    return NoPair("nothing in it that occurs once in the document")


def _is_fit(candidate: Candidate, index: DocumentIndex, quotation_mark: str) -> bool:
    answer = candidate.answer
    return (
        0 < len(answer) <= _LONGEST_ANSWER
        and any(map(str.isalnum, answer))
        and quotation_mark not in candidate.cue
        and answer.lower() not in candidate.cue.lower()
        and any(index.occurs_once(anchor) for anchor in candidate.anchors)
    )


def _places(rng: random.Random, count: int) -> Iterator[int]:
    """Some of the numbers from 0 to below `count`, in random order."""
    yield from rng.sample(range(count), max(0, min(count, TRIES)))


def _beside(own: list[Sentence], rng: random.Random, *, after: bool) -> Iterator[Candidate]:
    """The words behind a quotation, or before it, in the same sentence."""
    for place in _places(rng, len(own)):
        sentence = own[place]
        quoted, asked = rng.randint(5, 8), rng.randint(3, 6)
        if len(sentence) < quoted + asked:
            continue
        first = rng.randint(0, len(sentence) - quoted - asked)
        middle, last = first + (quoted if after else asked), first + quoted + asked
        parts = sentence.quote(first, middle), sentence.quote(middle, last)
        cue, answer = parts if after else parts[::-1]
        yield Candidate(cue, answer.strip(PUNCTUATION), (cue,), words(asked))


def _ending(own: list[Sentence], rng: random.Random) -> Iterator[Candidate]:
    """How a sentence closes that opens with a quotation."""
    for place in _places(rng, len(own)):
        sentence = own[place]
        quoted, asked = rng.randint(5, 7), rng.randint(3, 5)
        if quoted + asked < len(sentence) <= 60:
            cue = sentence.quote(0, quoted)
            answer = sentence.quote(len(sentence) - asked, len(sentence)).strip(PUNCTUATION)
            yield Candidate(cue, answer, (cue,), words(asked))


def _next_sentence(own: list[list[Sentence]], rng: random.Random) -> Iterator[Candidate]:
    couples = [couple for paragraph in own for couple in pairwise(paragraph) if couple[1].whole]
    for place in _places(rng, len(couples)):
        sentence, following = couples[place]
        if len(sentence) >= 4 and len(following) >= 4:
            cue = sentence.quote(max(0, len(sentence) - 9), len(sentence))
            yield Candidate(cue, following.text, (cue,))


Distinctive = Callable[[str, int, DocumentIndex], bool]


def _gap(
    own: list[Sentence], rng: random.Random, index: DocumentIndex, distinctive: Distinctive
) -> Iterator[Candidate]:
    """A sentence, or eight words around, with one word left out."""
    around = 8
    gaps = [(sentence, place) for sentence in own if len(sentence) >= 8 for place in range(len(sentence))]
    tried = 0
    for number in rng.sample(range(len(gaps)), len(gaps)):
        sentence, place = gaps[number]
        start, end = sentence.words[place]
        word = sentence.text[start:end]
        core = word.strip(PUNCTUATION)
        if not core or not distinctive(core, place, index):
            continue
        start += word.index(core)
        end = start + len(core)
        left = sentence.text[sentence.words[max(0, place - around)][0] : start]
        right = sentence.text[end : sentence.words[min(len(sentence) - 1, place + around)][1]]
        if left.endswith("_") or right.startswith("_"):
            continue  # the blank would look longer
        anchors = [side.strip() for side in (left, right) if len(side.split()) >= 4]
        yield Candidate(f"{left}{BLANK}{right}", core, tuple(anchors))
        tried += 1
        if tried == TRIES:
            return


def _is_rare_word(word: str, place: int, index: DocumentIndex) -> bool:  # noqa: ARG001
    return len(word) >= 6 and word.isalpha() and word.islower() and index.count(word) <= _COMMON


def _is_name(word: str, place: int, index: DocumentIndex) -> bool:  # noqa: ARG001
    return place > 0 and len(word) >= 3 and word.isalpha() and word.istitle()


def _is_number(word: str, place: int, index: DocumentIndex) -> bool:  # noqa: ARG001
    return _FIGURE.fullmatch(word) is not None


def _parameters(own: list[str], rng: random.Random) -> Iterator[Candidate]:
    """What stands between the parentheses of a function's definition, where it is on one line."""
    found = [match for line in own if (match := _DEFINITION.search(line))]
    for place in _places(rng, len(found)):
        match = found[place]
        parameters = flat(match[2])
        if "," in parameters:
            yield Candidate(match[1], parameters, (match.string[match.start() : match.start(2)],))


def _line(own: list[str], rng: random.Random) -> Iterator[Candidate]:
    """The rest of a line of code."""
    for place in _places(rng, len(own)):
        tokens = own[place].split()
        if len(tokens) >= 3:
            at = rng.randint(1, len(tokens) - 1)
            cue, answer = " ".join(tokens[:at]), " ".join(tokens[at:])
            if len(cue) >= 8 and len(answer) >= 4:
                yield Candidate(cue, answer, (cue,))


def _next_line(own: list[str], rng: random.Random) -> Iterator[Candidate]:
    for place in _places(rng, len(own) - 1):
        cue, answer = flat(own[place]), flat(own[place + 1])
        if 12 <= len(cue) <= 120 and len(answer) >= 8:
            yield Candidate(cue, answer, (cue,))
