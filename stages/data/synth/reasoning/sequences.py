"""Counting things and letters, ordering numbers, operations on lists."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.reasoning.base import ReasoningProblem, listing
from stages.data.synth.words import COMMON, THINGS

_ORDINALS = (
    "",
    "",
    "second ",
    "third ",
    "fourth ",
    "fifth ",
    "sixth ",
    "seventh ",
    "eighth ",
    "ninth ",
    "tenth ",
)


@dataclass(frozen=True)
class Counting(ReasoningProblem):
    """How often one thing stands in a list: seven things of three sorts at level 1, three things more a level."""

    items: tuple[str, ...]
    asked: str

    wordings = Wordings(
        (
            "Count how many times {asked} is in this list: {items}.",
            "How many of these are {asked}: {items}?",
            "{items}. How often does {asked} occur?",
        ),
        (
            "In the row {items}, how many times do you see {asked}?",
            "Look for {asked} among {items}. How many are there?",
        ),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        sorts = dice.sample(THINGS, 3 + level // 2)
        items = [dice.choice(sorts) for _ in range(4 + 3 * level)]
        asked = dice.choice(items)
        return cls(tuple(items), asked)

    @property
    def answer(self) -> int:
        return Counter(self.items)[self.asked]

    def words(self) -> dict[str, str]:
        return {"items": ", ".join(self.items), "asked": self.asked}

    def steps(self, long: bool) -> list[str]:
        lines, count = [], 0
        for place, item in enumerate(self.items, start=1):
            label = f"place {place}, {item}" if long else item
            if item == self.asked:
                lines.append(f"{label}: {count} + 1 = {count + 1}")
                count += 1
            else:
                lines.append(f"{label}, still {count}" if long else item)
        return [*lines, f"in all {count}"]

    def checks(self) -> list[str]:
        spots = [place for place, item in enumerate(self.items, start=1) if item == self.asked]
        return [f"{self.asked} is at these places: len({spots}) = {len(spots)}"]

    def verify(self, lines: list[str]) -> None:
        """The first lines go through the items; each says how often the thing has come."""
        super().verify(lines)
        for place, line in enumerate(lines[: len(self.items)]):
            item, so_far = self.items[place], self.items[: place + 1].count(self.asked)
            counts = line.endswith(f" {so_far}") if " " in line else item != self.asked
            if item not in line or not counts:
                raise ValueError(f"{line!r}: it is {item}, and {self.asked} has come {so_far} times")


@dataclass(frozen=True)
class Letters(ReasoningProblem):
    """How often a letter stands in some words: two words at level 1, one more a level."""

    text: tuple[str, ...]
    letter: str

    wordings = Wordings(
        (
            "How many times does the letter {letter} occur in: {text}?",
            "Count the letter {letter} in the words {text}.",
            "How many letters {letter} are there in {text}?",
        ),
        (
            "Someone writes {text}. How often is the letter {letter} written?",
            "Find each {letter} in {text}. How many?",
        ),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        text = dice.sample(COMMON, level + 1)
        return cls(tuple(text), dice.choice(dice.choice(text)))

    @property
    def essence(self) -> Any:
        return [sorted(self.text), self.letter]

    @property
    def answer(self) -> int:
        return "".join(self.text).count(self.letter)

    def words(self) -> dict[str, str]:
        return {"text": " ".join(self.text), "letter": self.letter}

    def steps(self, long: bool) -> list[str]:
        lines, count = [], 0
        for word in self.text:
            if long:
                lines.append(f"{word} is {' '.join(word)}")
                for letter in word:
                    lines.append(f"{letter}: {count} + 1 = {count + 1}" if letter == self.letter else letter)
                    count += letter == self.letter
            else:
                here = word.count(self.letter)
                lines.append(f"{' '.join(word)}: {count} + {here} = {count + here}")
                count += here
        return [*lines, f"in all {count}"]

    def checks(self) -> list[str]:
        counts = [word.count(self.letter) for word in self.text]
        lines = [f"{word} has {count}" for word, count in zip(self.text, counts, strict=True)]
        return [*lines, f"sum({counts}) = {sum(counts)}"]

    def verify(self, lines: list[str]) -> None:
        """Each line that goes up goes up by as many as the word or letter before the colon has."""
        super().verify(lines)
        for line in lines:
            word, colon, claim = line.partition(": ")
            if colon and int(claim.split()[2]) != word.count(self.letter):
                raise ValueError(f"{line!r}: {self.letter} is there {word.count(self.letter)} times")


@dataclass(frozen=True)
class Ordering(ReasoningProblem):
    """The k-th smallest or largest of some numbers: four of two digits at level 1."""

    numbers: tuple[int, ...]
    largest: bool
    rank: int

    wordings = Wordings(
        (
            "What is the {rank} of {numbers}?",
            "Find the {rank} of these numbers: {numbers}.",
            "{numbers}: which is the {rank}?",
        ),
        ("Among {numbers}, tell me the {rank}.", "Somebody sorts {numbers}. Which of them is the {rank}?"),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        digits = 2 + (level - 1) // 3
        numbers: list[int] = []
        while len(numbers) < level + 3:
            number = dice.digits(digits)
            if number not in numbers:
                numbers.append(number)
        return cls(tuple(numbers), dice.chance(0.5), dice.integer(2, min(2 + level // 2, 10)))

    @property
    def essence(self) -> Any:
        return [sorted(self.numbers), self.largest, self.rank]

    @property
    def answer(self) -> int:
        return sorted(self.numbers, reverse=self.largest)[self.rank - 1]

    def words(self) -> dict[str, str]:
        name = "largest" if self.largest else "smallest"
        return {"numbers": listing(tuple(map(str, self.numbers))), "rank": _ORDINALS[self.rank] + name}

    def steps(self, long: bool) -> list[str]:
        lines, left = [], list(self.numbers)
        function, sign = (max, "<") if self.largest else (min, ">")
        for _ in range(self.rank):
            best = function(left)
            if long:
                champion = left[0]
                for number in left[1:]:
                    better = function(champion, number)
                    loser = champion + number - better
                    lines.append(f"{loser} {sign} {better}")
                    champion = better
            lines.append(f"{function.__name__}({', '.join(map(str, left))}) = {best}")
            left.remove(best)
        return lines

    def checks(self) -> list[str]:
        ordered = sorted(self.numbers)
        lines = [f"sort({list(self.numbers)}) = {ordered}"]
        return [*lines, f"{self.rank} from the {'end' if self.largest else 'start'}: {self.answer}"]


@dataclass(frozen=True)
class Lists(ReasoningProblem):
    """Operations on a list of numbers, one after another: two at level 1, one more a level."""

    numbers: tuple[int, ...]
    operations: tuple[tuple[str, int], ...]
    asked: str

    wordings = Wordings(
        (
            "Take the list {numbers}. {operations}. What is {asked}?",
            "Start with {numbers}. {operations}. Give {asked}.",
            "The list is {numbers}. {operations}. Now find {asked}.",
        ),
        (
            "A program reads {numbers} and does the following. {operations}. It prints {asked}. What does it print?",
            "Write down {numbers}. {operations}. Tell me {asked}.",
        ),
    )

    _ACTIONS: ClassVar[dict[str, str]] = {
        "reverse": "Reverse it",
        "sort": "Sort it from small to large",
        "drop_first": "Drop the first number",
        "drop_last": "Drop the last number",
        "double": "Double each number",
        "add": "Add {amount} to each number",
        "append": "Put {amount} at the end",
        "even": "Keep the even numbers only",
        "odd": "Keep the odd numbers only",
    }
    _QUESTIONS: ClassVar[dict[str, str]] = {
        "sum": "the sum of the numbers",
        "max": "the largest number",
        "min": "the smallest number",
        "len": "the count of the numbers",
    }

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        numbers = tuple(dice.integer(0, 9) for _ in range(4 + level // 2))
        operations: list[tuple[str, int]] = []
        current = numbers
        while len(operations) < level + 1:
            name = dice.choice(tuple(cls._ACTIONS))
            amount = dice.integer(1, 9) if name in ("add", "append") else 0
            after = _apply(current, name, amount)
            if after != current and len(after) >= 2 and max(after) < 1000:
                operations.append((name, amount))
                current = after
        return cls(numbers, tuple(operations), dice.choice(("sum", "sum", "max", "min", "len")))

    @property
    def answer(self) -> int:
        numbers = self.numbers
        for name, amount in self.operations:
            numbers = _apply(numbers, name, amount)
        return {"sum": sum(numbers), "max": max(numbers), "min": min(numbers), "len": len(numbers)}[
            self.asked
        ]

    def words(self) -> dict[str, str]:
        actions = [self._ACTIONS[name].format(amount=amount) for name, amount in self.operations]
        return {
            "numbers": str(list(self.numbers)),
            "operations": ". ".join(actions),
            "asked": self._QUESTIONS[self.asked],
        }

    def steps(self, long: bool) -> list[str]:
        lines, numbers = [], self.numbers
        for name, amount in self.operations:
            after = _apply(numbers, name, amount)
            claim = f"{_call(name, str(list(numbers)), amount)} = {list(after)}"
            lines.append(f"{self._ACTIONS[name].format(amount=amount).lower()}: {claim}" if long else claim)
            numbers = after
        if long and self.asked == "sum":
            total = numbers[0]
            for number in numbers[1:]:
                lines.append(f"{total} + {number} = {total + number}")
                total += number
        return [*lines, f"{self.asked}({list(numbers)}) = {self.answer}"]

    def checks(self) -> list[str]:
        text = str(list(self.numbers))
        for name, amount in self.operations:
            text = _call(name, text, amount)
        return [f"{self.asked}({text}) = {self.answer}"]


def _call(name: str, argument: str, amount: int) -> str:
    return f"{name}({argument}, {amount})" if name in ("add", "append") else f"{name}({argument})"


def _apply(numbers: tuple[int, ...], name: str, amount: int) -> tuple[int, ...]:
    match name:
        case "reverse":
            return numbers[::-1]
        case "sort":
            return tuple(sorted(numbers))
        case "drop_first":
            return numbers[1:]
        case "drop_last":
            return numbers[:-1]
        case "double":
            return tuple(2 * number for number in numbers)
        case "add":
            return tuple(number + amount for number in numbers)
        case "append":
            return (*numbers, amount)
        case _:
            return tuple(number for number in numbers if number % 2 == (name == "odd"))
