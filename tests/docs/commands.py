"""The shell commands and Python blocks of README.md and docs/*.md."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("bash", "sh", "console")
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_OPERATORS = re.compile(r"\|\|?|&&?|;")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: the page and line where its text begins, and the language behind the fence."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class Line:
    """A line of shell, continued ones joined: simple commands as words, and what stands between them."""

    block: Block
    commands: tuple[tuple[str, ...], ...]
    operators: tuple[str, ...]

    @property
    def name(self) -> str:
        text = " ".join(self.commands[0])
        return f"{self.block.page.name}: {text if len(text) < 90 else text[:87] + '...'}"


@cache
def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text[: match.start()].count("\n") + 2
            found.append(Block(page, line, match[1], match[2]))
    return found


@cache
def lines() -> list[Line]:
    """Every line of every shell block, in order."""
    found = []
    for block in blocks():
        if block.language in SHELL:
            for text in block.text.replace("\\\n", " ").splitlines():
                if (line := _parsed(block, text)) is not None:
                    found.append(line)
    return found


def _parsed(block: Block, text: str) -> Line | None:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts = [
        (is_operator, list(words))
        for is_operator, words in groupby(lexer, lambda word: bool(_OPERATORS.fullmatch(word)))
    ]
    commands = tuple(tuple(words) for is_operator, words in parts if not is_operator)
    operators = tuple(words[0] for is_operator, words in parts if is_operator)
    return Line(block, commands, operators) if commands else None


def without_assignments(command: tuple[str, ...]) -> tuple[str, ...]:
    """A simple command without the variables set in front of it."""
    for index, word in enumerate(command):
        if not _ASSIGNMENT.fullmatch(word):
            return command[index:]
    return ()


def as_one_process(words: Sequence[str]) -> list[str]:
    """`torchrun ... -m nano2cli sft ...` as `nano2 sft ...`; anything else as it is."""
    if words[:1] and words[0] == "torchrun":
        return ["nano2", *words[words.index("nano2cli") + 1 :]]
    return list(words)


def nano2_commands() -> list[tuple[Line, list[str]]]:
    """Every `nano2 ...` of every line, however many ranks it is started on."""
    commands = [
        (line, as_one_process(without_assignments(each))) for line in lines() for each in line.commands
    ]
    return [(line, words) for line, words in commands if words[:1] == ["nano2"]]
