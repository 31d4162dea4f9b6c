"""The two counting tasks: common words in a numbered list (cwe), frequent coded words in a coded text (fwe)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from random import Random
from string import ascii_lowercase

from evals.ruler.drafts import Draft
from evals.ruler.material import words
from evals.ruler.setting import Setting

COMMON = 10
_LIST = """Below is a numbered list of words, some of which come more often than the others. Remember the most common ones.
{list}
Question: Which are the 10 most common words in the list above?"""
_LIST_PREFIX = "Answer: The 10 most common words in the list above are:"

DOTS = "..."
_ZETA = math.pi**2 / 6  # Riemann's zeta function at 2
_CODED = """The coded text below consists of made-up words. Count how often each of them comes and find the most frequent.
{text}
Question: Leaving out the dots '...', which are the three most frequent words in the coded text above? Do not explain."""
_CODED_PREFIX = "Answer: The three most frequent words in the coded text above are:"


def common_words(setting: Setting) -> Callable[[int], Draft]:
    half = setting.length // 2  # of the tokens at least are words and full stops
    entries = min(max(half, _FULL.least_entries), COMMON * _FULL.common + len(words().every) * _FULL.other)
    numbers = [0, *accumulate(setting.counter.words(f"{number}." for number in range(1, entries + 1)))]
    scale = _FULL if _has_room_for_full(setting, numbers) else _SMALL
    return lambda index: CommonWordsDraft(setting, scale, numbers, index)


@dataclass(frozen=True)
class _Scale:
    """How often a common word and any other comes in the list, and in the list of the worked example, which has
    `example_words` words."""

    common: int
    other: int
    example_words: int
    example_common: int
    example_other: int

    @property
    def least_entries(self) -> int:
        return COMMON * (self.common + self.other)

    @property
    def example_entries(self) -> int:
        return COMMON * self.example_common + (self.example_words - COMMON) * self.example_other


_FULL = _Scale(common=30, other=3, example_words=40, example_common=10, example_other=3)
_SMALL = _Scale(common=6, other=1, example_words=20, example_common=3, example_other=1)
FULL_LENGTH = 4096
"""Shorter lists are on the small scale."""


def _has_room_for_full(setting: Setting, numbers: Sequence[int]) -> bool:
    """Whether the shortest list on the full scale surely fits: small vocabularies make more than 4,096 tokens of it."""
    if setting.length < FULL_LENGTH:
        return False
    if setting.length >= 4 * FULL_LENGTH:
        return True
    costs = setting.counter.words(words().every)
    texts = 2 * setting.counter.count([f"{_list([])} {_LIST_PREFIX}"])[0]
    entries = [_FULL.least_entries, _FULL.example_entries, COMMON, COMMON]
    needed = texts + sum(numbers[part] for part in entries) + 1.25 * sum(entries) * sum(costs) / len(costs)
    return needed <= setting.length - setting.reserved


class CommonWordsDraft:
    """One sample. The size is in words that are not common. numbers: tokens of the first n numbers."""

    least = COMMON
    answer_prefix = _LIST_PREFIX

    def __init__(self, setting: Setting, scale: _Scale, numbers: Sequence[int], index: int) -> None:
        random = setting.random(index)
        self._seed = random.getrandbits(64)
        example_random = Random(random.getrandbits(64))
        self._scale = scale
        self._numbers = numbers
        left = (len(numbers) - 1 - COMMON * scale.common) // scale.other
        self.most = min(left, len(words().every) - 4 * COMMON - scale.example_words)

        drawn = list(islice(_shuffled(words().every, random), 4 * COMMON + scale.example_words + self.most))
        self.answers = tuple(islice(_in_no_other_word(drawn), COMMON))
        drawn = [word for word in drawn if word not in self.answers]
        example, self._others = drawn[: scale.example_words], drawn[scale.example_words :]
        entries = _repeated(
            *(example[:COMMON], example[COMMON:]),
            *(scale.example_common, scale.example_other),
            example_random,
        )
        self._example = f"{_list(entries)} {_LIST_PREFIX} {_numbered(example[:COMMON])}\n\n"
        self.answer_text = _numbered(self.answers)
        self._sums = [0, *accumulate(setting.counter.words(self._others))]
        self._fixed = setting.counter.count([f"{self._example}{_list([])} {_LIST_PREFIX}"])[0]
        self._fixed += scale.common * sum(setting.counter.words(self.answers))

    def tokens(self, size: int) -> int:
        entries = self._scale.common * COMMON + self._scale.other * size
        return self._fixed + self._scale.other * self._sums[size] + self._numbers[entries]

    def render(self, size: int) -> tuple[str, tuple[float, ...]]:
        entries = _repeated(
            self.answers, self._others[:size], self._scale.common, self._scale.other, Random(self._seed)
        )
        return self._example + _list(entries), ()


def _shuffled(items: Sequence[str], random: Random) -> Iterator[str]:
    """The items in a drawn order, of which the beginning does not depend on how many are taken."""
    moved: dict[int, int] = {}
    for place in range(len(items)):
        other = random.randrange(place, len(items))
        yield items[moved.get(other, other)]
        moved[other] = moved.get(place, place)


def _in_no_other_word(candidates: Sequence[str]) -> Iterator[str]:
    """Those that neither a longer word nor the question contains: who repeats these does not name them."""
    joined = "\n".join([_LIST, _LIST_PREFIX, *words().every])
    return (word for word in candidates if joined.count(word) == 1)


def _repeated(
    common: Sequence[str], others: Sequence[str], common_times: int, other_times: int, random: Random
) -> list[str]:
    entries = [*common] * common_times + [*others] * other_times
    random.shuffle(entries)
    return entries


def _numbered(entries: Sequence[str]) -> str:
    return " ".join(f"{number}. {word}" for number, word in enumerate(entries, start=1))


def _list(entries: Sequence[str]) -> str:
    return _LIST.replace("{list}", _numbered(entries))


def coded_words(setting: Setting) -> Callable[[int], Draft]:
    return lambda index: CodedWordsDraft(setting, index)


def zeta_counts(size: int, ranks: int) -> list[int]:
    """How often each rank comes: size / (rank^2 zeta(2)), rounded down."""
    return [int(size / (_ZETA * rank**2)) for rank in range(1, ranks + 1)]


class CodedWordsDraft:
    """One sample. The size is in words, about: what is rounded down is missing."""

    answer_prefix = _CODED_PREFIX
    least = 53
    """From this size on the second to fifth rank always have different counts."""

    def __init__(self, setting: Setting, index: int) -> None:
        random = setting.random(index)
        self.most = 2 * setting.length
        coded: dict[str, None] = {}
        while len(coded) < max(setting.length // 50, 5) - 1:
            coded["".join(random.choices(ascii_lowercase, k=6))] = None
        self._ranked = [DOTS, *coded]
        self.answers = tuple(self._ranked[1:4])
        self.answer_text = _numbered(self.answers)
        self._seed = random.getrandbits(64)
        self._fixed = setting.counter.count([f"{_CODED.replace('{text}', '')} {_CODED_PREFIX}"])[0]
        self._costs = setting.counter.pieces([f" {word}" for word in self._ranked])

    def tokens(self, size: int) -> int:
        counts = zeta_counts(size, len(self._ranked))
        return self._fixed + sum(count * cost for count, cost in zip(counts, self._costs, strict=True))

    def render(self, size: int) -> tuple[str, tuple[float, ...]]:
        counts = zeta_counts(size, len(self._ranked))
        text = [word for word, count in zip(self._ranked, counts, strict=True) for _ in range(count)]
        Random(self._seed).shuffle(text)
        return _CODED.replace("{text}", " ".join(text)), ()
