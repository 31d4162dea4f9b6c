"""Small corpora and a small tokenizer for the data tests."""

import gzip
import json
import re
from collections.abc import Iterable
from pathlib import Path

WORDS = re.findall(
    r"\w+",
    "the river bends north of the old mill and nobody in the village remembers who built its wheel of oak and iron "
    "when winter comes they mend nets by the stove and count the barrels of salted fish against the long dark",
)


def story(number: int, words: int = 120) -> str:
    """A text that shares hardly any run of five words with the story of another number."""
    state = number * 2654435761 + 12345
    chosen = []
    for _ in range(words):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        chosen.append(WORDS[(state >> 33) % len(WORDS)])
    return f"Story {number}. {' '.join(chosen)}.\n"


def write_jsonl(path: Path, texts: Iterable[str], field: str = "text") -> Path:
    """One object a line, gzipped if the name says so."""
    data = "".join(json.dumps({"id": index, field: text}) + "\n" for index, text in enumerate(texts)).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
