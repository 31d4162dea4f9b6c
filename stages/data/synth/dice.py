"""Random choices by name: the same name gives the same choices in every process and Python version."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from model.seeds import seed64

Item = TypeVar("Item")


class Dice:
    """A stream of choices named by `name`, for instance `Dice(seed, "sums", 3, "train")`.

    Only `Random.random` is used: Python promises its sequence for all versions, and that of no other method.
    """

    def __init__(self, *name: str | int) -> None:
        self._random = Random(seed64("\x1f".join(map(str, name)))).random

    def below(self, count: int) -> int:
        """An integer from 0 to `count - 1`; `count` up to 2**50."""
        return min(int(self._random() * count), count - 1)

    def integer(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def digits(self, count: int) -> int:
        """A number of exactly `count` digits, as many as wanted (one digit: 1 to 9)."""
        text = str(self.integer(1, 9)) + "".join(str(self.below(10)) for _ in range(count - 1))
        return int(text)

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def choice(self, items: Sequence[Item]) -> Item:
        return items[self.below(len(items))]

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different items in random order; ValueError if there are fewer."""
        if count > len(items):
            raise ValueError(f"{count} of {len(items)} items")
        pool = list(items)
        for position in range(count):
            other = self.integer(position, len(pool) - 1)
            pool[position], pool[other] = pool[other], pool[position]
        return pool[:count]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        return self.sample(items, len(items))
