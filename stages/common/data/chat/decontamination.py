"""Samples that share a run of words with the questions they are to be measured on are left out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.chat_lines import ChatSample
from model.errors import ArtifactError
from model.text_lines import json_lines
from stages.common.data.documents import read_documents
from stages.common.data.words import run_hashes, words_of


@dataclass(frozen=True)
class Overlap:
    """Words that stand in both, and where in the evaluation data: "eval.jsonl line 12"."""

    words: str
    place: str


class EvalWords:
    """The runs of `width` words in evaluation files; 12 bytes of memory each.

    paths: .jsonl (every text in a line's object counts) or .txt, either with .gz.
    too_short: lines without a run of that many words, which no sample can be compared with.

    Raises:
        ArtifactError: a file of another kind, a broken one, or one that has no run of that many words at all.
    """

    def __init__(self, paths: Iterable[Path], width: int) -> None:
        self.width = width
        self.too_short = 0
        self._places: list[str] = []
        hashes: list[np.ndarray[Any, Any]] = []
        for path in paths:
            before = len(hashes)
            for texts, place in _eval_texts(path):
                runs = [run_hashes(words_of(text), width) for text in texts]
                hashes.append(np.unique(np.concatenate(runs)) if runs else np.zeros(0, np.uint64))
                self._places.append(place)
                self.too_short += not len(hashes[-1])
            if not sum(map(len, hashes[before:])):
                raise ArtifactError(
                    f"has no {width} words in a row, so nothing can be compared with it",
                    where=str(path),
                    remedy="give evaluation data with its questions, or fewer --decontaminate-words",
                )
        owners = np.repeat(np.arange(len(hashes), dtype=np.uint32), [len(item) for item in hashes])
        everything = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        self._hashes, first = np.unique(everything, return_index=True)
        self._owners = owners[first]

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, sample: ChatSample) -> Overlap | None:
        """The first overlap of any text of the sample, reasoning and tool results included."""
        for text in texts_of(sample):
            words = words_of(text)
            runs = run_hashes(words, self.width)
            at = np.searchsorted(self._hashes, runs)
            at[at == len(self._hashes)] = 0
            hits = np.flatnonzero(self._hashes[at] == runs)
            if len(hits):
                start = int(hits[0])
                place = self._places[self._owners[at[start]]]
                return Overlap(" ".join(words[start : start + self.width]), place)
        return None


def texts_of(sample: ChatSample) -> Iterator[str]:
    """Every text of a sample, one a field."""
    if sample.is_text:
        yield f"{sample.prompt}{sample.completion}"
    for message in sample.conversation:
        yield from (text for text in (message.text, message.reasoning, message.reasoning_content) if text)


def _eval_texts(path: Path) -> Iterator[tuple[Sequence[str], str]]:
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        for row, place in json_lines(path):
            yield list(_strings(row)), place
    elif path.name.endswith((".txt", ".txt.gz")):
        for document in read_documents(path):
            yield [document.text], document.place
    else:
        raise ArtifactError(
            "is no evaluation data that can be read",
            where=str(path),
            remedy="give .jsonl or .txt, either with .gz",
        )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
