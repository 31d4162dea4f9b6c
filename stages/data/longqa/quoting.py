"""Parts of a document that can be quoted so that they are found again in one place only."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

PUNCTUATION = " \t,;:.!?…—–-\"'“”‘’«»()[]{}*_`。，、；：！？「」『』"
# In scripts without spaces a character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]|[^\s\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]+")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*\s(?=[\"'“‘(\[]*[A-Z0-9À-Þ])|[。！？][」』]?")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|Rev|Hon|Capt|Col|Gen|Lt|Sgt|Jr|Sr|No|Vol|Fig|Ch|pp?|vs|etc|cf|e\.g|i\.e)|\b[A-Z])\.$"
)
_CODE_LINE = re.compile(
    r"""^\s*(?:[#@}\])]|//|/\*|\*/|def\b|class\b|import\b|from\s+\S+\s+import\b|return\b|if\b.*:|for\b.*[:{]|while\b.*[:{]|
    else\b|elif\b|try:|except\b|with\b.*:|func\b|fn\b|let\b|const\b|var\b|public\b|private\b|static\b|package\b|use\b.*;)
    |[;{}]\s*$|[(\[,]\s*$|\w\s*(?:=|\+=|:=|==|->|=>)\s*\S|\w\(.*\)\s*:?\s*$""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Sentence:
    """`text` without line breaks, and the [start, end) of its words in it. `whole`: no part of it is missing."""

    text: str
    words: tuple[tuple[int, int], ...]
    whole: bool

    @classmethod
    def of(cls, text: str, *, whole: bool) -> Sentence:
        return cls(text, tuple(match.span() for match in _WORD.finditer(text)), whole)

    def __len__(self) -> int:
        return len(self.words)

    def quote(self, first: int, last: int) -> str:
        """The words `first` to `last`, without the latter, as they stand in the text."""
        return self.text[self.words[first][0] : self.words[last - 1][1]]


class DocumentIndex:
    """A document, to ask how often it says something; white space and letter case make no difference."""

    def __init__(self, text: str) -> None:
        self._text = flat(text).lower()

    def occurs_once(self, quote: str) -> bool:
        quote = flat(quote).lower()
        first = self._text.find(quote)
        return bool(quote) and first >= 0 and self._text.find(quote, first + 1) < 0

    def count(self, quote: str) -> int:
        return self._text.count(flat(quote).lower())


def flat(text: str) -> str:
    """Every run of white space as one blank, none at the ends."""
    return " ".join(text.split())


def whole_words(text: str, start: int, end: int) -> str:
    """`text[start:end]` less a word at either end that goes on outside of it."""
    part = text[start:end]
    if start > 0 and not text[start - 1].isspace():
        part = re.sub(r"^\S+", "", part)
    if end < len(text) and not text[end].isspace():
        part = re.sub(r"\S+$", "", part)
    return part


def paragraphs(text: str, start: int, end: int) -> list[list[Sentence]]:
    """The sentences of `text[start:end]` by paragraph; those that the two ends cut are there in part."""
    found = [_sentences(paragraph) for paragraph in re.split(r"\n\s*\n", whole_words(text, start, end))]
    found = [paragraph for paragraph in found if paragraph]
    if found and start > 0:
        found[0][0] = replace(found[0][0], whole=False)
    if found and end < len(text):
        found[-1][-1] = replace(found[-1][-1], whole=False)
    return found


def _sentences(paragraph: str) -> list[Sentence]:
    text = flat(paragraph)
    ends = [0]
    for match in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text, max(0, match.start() - 8), match.start() + 1):
            ends.append(match.end())
    ends.append(len(text))
    found = [text[first:last].strip() for first, last in pairwise(ends)]
    return [Sentence.of(sentence, whole=True) for sentence in found if sentence]


def lines(text: str, start: int, end: int) -> list[str]:
    """The lines that lie wholly in `text[start:end]` and are not blank."""
    found = text[start:end].split("\n")
    first = 0 if start == 0 or text[start - 1] == "\n" else 1
    last = len(found) if end == len(text) or text[end] == "\n" else len(found) - 1
    return [line for line in found[first:last] if line.strip()]


def looks_like_code(text_lines: list[str]) -> bool:
    """Whether at least two in five of the lines have the marks of a program."""
    marked = sum(_CODE_LINE.search(line) is not None for line in text_lines)
    return len(text_lines) > 2 and marked >= 0.4 * len(text_lines)
