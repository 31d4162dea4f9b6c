"""What the samples are made of: essays, words and questions, read once from `evals/data` (NOTICE.md says whose they are)."""

import gzip
import json
import re
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from model.errors import ArtifactError

DATA = Path(__file__).parent.parent / "data"

_SENTENCE_END = re.compile(r'(?<=[.!?])["\')]*(?= [A-Z"\'(])')


@dataclass(frozen=True)
class Words:
    """English words of 4 to 10 letters, and those of them that are adjectives or nouns."""

    every: tuple[str, ...]
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """`paragraph`, and `article`: the other paragraphs of its article, are indices into `Questions.paragraphs`."""

    text: str
    answers: tuple[str, ...]
    paragraph: int
    article: tuple[int, ...]


@dataclass(frozen=True)
class Questions:
    asked: tuple[Question, ...]
    paragraphs: tuple[str, ...]


@cache
def essay_sentences() -> tuple[tuple[str, ...], ...]:
    """The essays, one behind the other, as sentences of words."""
    return tuple(
        tuple(sentence.split())
        for row in _rows("ruler_essays.jsonl.gz", "text")
        for sentence in _split(row["text"])
    )


def _split(paragraph: str) -> list[str]:
    ends = [match.end() for match in _SENTENCE_END.finditer(paragraph)]
    return [paragraph[start:end] for start, end in zip([0, *ends], [*ends, len(paragraph)], strict=True)]


@cache
def words() -> Words:
    rows = _rows("ruler_words.jsonl.gz", "word", "kinds")
    return Words(
        tuple(row["word"] for row in rows),
        tuple(row["word"] for row in rows if "adjective" in row["kinds"]),
        tuple(row["word"] for row in rows if "noun" in row["kinds"]),
    )


@cache
def questions() -> Questions:
    rows = _rows("ruler_squad.jsonl.gz", "title", "context", "question", "answers")
    paragraphs = {text: index for index, text in enumerate(dict.fromkeys(row["context"] for row in rows))}
    articles: dict[str, dict[int, None]] = {}
    for row in rows:
        articles.setdefault(row["title"], {})[paragraphs[row["context"]]] = None
    asked = []
    for row in rows:
        own = paragraphs[row["context"]]
        others = tuple(index for index in articles[row["title"]] if index != own)
        asked.append(Question(row["question"], tuple(row["answers"]), own, others))
    return Questions(tuple(asked), tuple(paragraphs))


def _rows(name: str, *keys: str) -> list[dict[str, Any]]:
    """At least one, each with the keys."""
    try:
        with gzip.open(DATA / name, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _damaged(name, f"cannot be read ({error})") from error
    if not rows or not all(isinstance(row, dict) and set(keys) <= row.keys() for row in rows):
        raise _damaged(name, f"has not {', '.join(keys)} in every line")
    return rows


def _damaged(name: str, what: str) -> ArtifactError:
    return ArtifactError(what, where=str(DATA / name), remedy="restore the file from the nano2 distribution")
