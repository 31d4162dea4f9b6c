"""What needles are hidden in: repeated sentences, essays, or other needles."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate, islice
from random import Random
from typing import Protocol

from evals.ruler.material import essay_sentences
from evals.ruler.tokens import TokenCounter

NOISE = (
    "The grass grows green.",
    "The sky stays blue.",
    "The sun shines yellow.",
    "Off we go.",
    "Out and home again.",
)


class Haystack(Protocol):
    """`separator` stands between its parts; a needle is a part of its own."""

    separator: str
    least: int
    most: int

    def tokens(self, size: int) -> int:
        """About how many tokens `parts(size)` has."""

    def parts(self, size: int) -> list[str]: ...


class Noise:
    """The five sentences of NOISE a line, over and over. The size is in sentences."""

    separator = "\n"
    least = 1

    def __init__(self, length: int, counter: TokenCounter) -> None:
        self.most = 2 * length
        first, *others = NOISE
        costs = counter.pieces([first + "\n", *(f" {sentence}" for sentence in others)])
        self._sums = [0, *accumulate(costs)]

    def tokens(self, size: int) -> int:
        lines, rest = divmod(size, len(NOISE))
        return lines * self._sums[-1] + self._sums[rest]

    def parts(self, size: int) -> list[str]:
        lines, rest = divmod(size, len(NOISE))
        return [" ".join(NOISE)] * lines + [" ".join(NOISE[:rest])] * (rest > 0)


class Essays:
    """Essays from a drawn sentence on, from the first again after the last. The size is in words; the last sentence is
    cut. The parts are sentences."""

    separator = " "
    least = 16

    def __init__(self, length: int, counter: TokenCounter, random: Random) -> None:
        self.most = 2 * length
        sentences = essay_sentences()
        start = random.randrange(len(sentences))
        self._ends = [0]
        self._words: list[str] = []
        while len(self._words) < self.most:
            self._words += sentences[start]
            self._ends.append(len(self._words))
            start = (start + 1) % len(sentences)
        self._sums = [0, *accumulate(counter.words(self._words))]

    def tokens(self, size: int) -> int:
        return self._sums[size]

    def parts(self, size: int) -> list[str]:
        whole = self._ends[: bisect_left(self._ends, size)]
        return [
            " ".join(self._words[start:end]) for start, end in zip(whole, [*whole[1:], size], strict=True)
        ]


class Lines:
    """Lines that are drawn, each another. The size is in lines."""

    separator = "\n"
    least = 3

    def __init__(self, length: int, counter: TokenCounter, draw: Callable[[], str]) -> None:
        self._lines: list[str] = []
        self._sums = [0]
        block = max(self.least, length // 64)
        while self._sums[-1] < length or len(self._lines) < self.least:
            new = [draw() for _ in range(block)]
            self._lines += new
            self._sums += islice(
                accumulate(counter.pieces([f"{line}\n" for line in new]), initial=self._sums[-1]), 1, None
            )
        self.most = len(self._lines)

    def tokens(self, size: int) -> int:
        return self._sums[size]

    def parts(self, size: int) -> list[str]:
        return self._lines[:size]


def place(parts: Sequence[str], depth: float) -> int:
    """How many parts stand before a needle at the depth: the nearest to its share of the text. Sentences of an essay differ
    too much in length to count them."""
    ends = [0, *accumulate(map(len, parts))]
    return min(range(len(ends)), key=lambda count: abs(ends[count] - depth * ends[-1]))


def insert(parts: Sequence[str], needles: Sequence[str], places: Sequence[int]) -> list[str]:
    """The parts with each needle behind so many of them; needles at one place stay in their order."""
    mixed: list[str] = []
    done = 0
    for count, needle in sorted(zip(places, needles, strict=True), key=lambda pair: pair[0]):
        mixed += [*parts[done:count], needle]
        done = count
    return [*mixed, *parts[done:]]
