"""Sums, column addition and subtraction, multiplication, remainders."""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.reasoning.base import ReasoningProblem, listing, places, plus, times


@dataclass(frozen=True)
class Sums(ReasoningProblem):
    """Add several numbers: level 1 five digits, level 2 six numbers below 20, level 3 six of two digits."""

    terms: tuple[int, ...]

    wordings = Wordings(
        (
            "Add these numbers: {terms}.",
            "What is {sum}?",
            "Find the total of {terms}.",
            "Work out {sum}.",
            "Add up {terms}.",
            "Compute {sum}.",
            "What is the sum of {terms}?",
            "What do you get for {sum}?",
            "The numbers are {terms}. What is their sum?",
            "Here are some numbers: {terms}. Find their total.",
            "I have {terms}. How much is that in all?",
        ),
        ("How much do {terms} make together?", "Someone writes down {terms}. What do they add up to?"),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        match level:
            case 1:
                return cls(tuple(dice.integer(1, 9) for _ in range(5)))
            case 2:
                return cls(tuple(dice.integer(2, 19) for _ in range(6)))
            case _:
                longest = 2 + (level - 2) // 2
                return cls(tuple(dice.digits(dice.integer(2, longest)) for _ in range(level + 3)))

    @property
    def essence(self) -> Any:
        return sorted(self.terms)

    @property
    def answer(self) -> int:
        return sum(self.terms)

    def words(self) -> dict[str, str]:
        texts = tuple(map(str, self.terms))
        return {"terms": listing(texts), "sum": " + ".join(texts)}

    def steps(self, long: bool) -> list[str]:
        return _running_sum(self.terms, long)

    def checks(self) -> list[str]:
        return _running_sum(self.terms[::-1], False)


def _running_sum(terms: tuple[int, ...], long: bool) -> list[str]:
    lines, total = [], terms[0]
    for term in terms[1:]:
        lines += plus(total, term, long)
        total += term
    return lines


@dataclass(frozen=True)
class Columns(ReasoningProblem):
    """Add or subtract two numbers digit by digit; level 1 has two digits, each further level one more."""

    left: int
    sign: str
    right: int

    wordings = Wordings(
        (
            "What is {left} {sign} {right}?",
            "Work out {left} {sign} {right} digit by digit.",
            "{left} {sign} {right} = ?",
            "Find the value of {left} {sign} {right}.",
        ),
        ("How much is {left} {sign} {right}?", "Give the result of {left} {sign} {right}."),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        left, right = dice.digits(level + 1), dice.digits(dice.integer(level, level + 1))
        if dice.chance(0.5):
            return cls(left, "+", right)
        return cls(max(left, right), "-", min(left, right))

    @property
    def essence(self) -> Any:
        return [self.sign, *sorted((self.left, self.right))]

    @property
    def answer(self) -> int:
        return self.left + self.right if self.sign == "+" else self.left - self.right

    def words(self) -> dict[str, str]:
        return {"left": str(self.left), "sign": self.sign, "right": str(self.right)}

    def steps(self, long: bool) -> list[str]:
        top, bottom = str(self.left)[::-1], str(self.right)[::-1]
        lines, written, carry = [], "", 0
        word = "carry" if self.sign == "+" else "borrow"
        for place in range(max(len(top), len(bottom))):
            upper = int(top[place]) if place < len(top) else 0
            lower = int(bottom[place]) if place < len(bottom) else 0
            result, clauses = self._column(upper, lower, carry)
            carry = (1 if result > 9 else 0) if self.sign == "+" else (1 if upper - lower - carry < 0 else 0)
            digit = result % 10
            written = str(digit) + written
            line = f"{clauses}; write {digit}, {word} {carry}"
            lines.append(f"place {place + 1}: {line}; so far {written}" if long else line)
        if self.sign == "+" and carry:
            lines.append("write the last carry: 1")
        lines.append(f"{self.left} {self.sign} {self.right} = {self.answer}")
        return lines

    def _column(self, upper: int, lower: int, carry: int) -> tuple[int, str]:
        """The value of a column (a difference is raised by 10 where it would be negative), and its claim."""
        operands = [upper, lower, carry] if carry else [upper, lower]
        result = upper + lower + carry if self.sign == "+" else upper - lower - carry
        text = f" {self.sign} ".join(map(str, operands))
        if result < 0:
            return result + 10, f"10 + {text} = {result + 10}"
        return result, f"{text} = {result}"

    def checks(self) -> list[str]:
        if self.sign == "+":
            return [f"{self.answer} - {self.right} = {self.left}"]
        return [f"{self.answer} + {self.right} = {self.left}"]


@dataclass(frozen=True)
class Products(ReasoningProblem):
    """Multiply two numbers: level 1 up to 299 by one digit, level 2 three digits by one, and each level one digit more."""

    left: int
    right: int

    wordings = Wordings(
        ("What is {left} * {right}?", "Multiply {left} by {right}.", "{left} times {right} is what number?"),
        ("Find the product of {left} and {right}.", "How much is {left} taken {right} times?"),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        if level == 1:
            return cls(dice.integer(11, 299), dice.integer(2, 9))
        shorter = (level + 1) // 2
        left, right = dice.digits(level + 2 - shorter), dice.digits(shorter)
        return cls(left, max(right, 2))

    @property
    def essence(self) -> Any:
        return sorted((self.left, self.right))

    @property
    def answer(self) -> int:
        return self.left * self.right

    def words(self) -> dict[str, str]:
        return {"left": str(self.left), "right": str(self.right)}

    def steps(self, long: bool) -> list[str]:
        pairs = [(upper, lower) for upper in places(self.left) for lower in places(self.right)]
        lines: list[str] = []
        if len(pairs) > 1:
            lines += [f"{upper} * {lower} = {upper * lower}" for upper, lower in pairs]
            lines += _running_sum(tuple(map(prod, pairs)), long)
        return [*lines, f"{self.left} * {self.right} = {self.answer}"]

    def checks(self) -> list[str]:
        return times(self.right, self.left, True)


@dataclass(frozen=True)
class Remainders(ReasoningProblem):
    """A running sum, from level 3 also products, of which each step keeps the remainder: 10 at level 1."""

    modulus: int
    start: int
    operations: tuple[tuple[str, int], ...]

    wordings = Wordings(
        (
            "Start with {start}. {operations}. After each step keep only the remainder modulo {modulus}. What is left?",
            "Working modulo {modulus}, begin at {start}. {operations}. What is the result?",
            "Take {start} and calculate modulo {modulus}. {operations}. Which number do you get?",
        ),
        (
            "On a dial with the numbers from 0 to {largest}, the hand stands at {start}. {operations}, as the dial "
            "counts. Where is the hand?",
            "What remains modulo {modulus} if you begin with {start} and then {actions}?",
        ),
    )

    _VERBS: ClassVar[dict[str, str]] = {"+": "add", "*": "multiply by"}

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        modulus = 10 if level == 1 else dice.integer(5, 7 + 2 * level)
        signs = "+" if level < 3 else "++*"
        operations = tuple((dice.choice(signs), dice.integer(2, 9)) for _ in range(3 + level))
        return cls(modulus, dice.below(modulus), operations)

    @property
    def essence(self) -> Any:
        if all(sign == "+" for sign, _ in self.operations):
            return [self.modulus, *sorted((self.start, *(operand for _, operand in self.operations)))]
        return self.content

    @property
    def answer(self) -> int:
        value = self.start
        for sign, operand in self.operations:
            value = value + operand if sign == "+" else value * operand
        return value % self.modulus

    def words(self) -> dict[str, str]:
        actions = [f"{self._VERBS[sign]} {operand}" for sign, operand in self.operations]
        text = ", then ".join(actions)
        return {
            "start": str(self.start),
            "modulus": str(self.modulus),
            "largest": str(self.modulus - 1),
            "operations": text[0].upper() + text[1:],
            "actions": text,
        }

    def steps(self, long: bool) -> list[str]:
        lines, value = [], self.start
        for sign, operand in self.operations:
            raw = value + operand if sign == "+" else value * operand
            kept = raw % self.modulus
            if long:
                lines.append(f"{value} {sign} {operand} = {raw}; {raw} mod {self.modulus} = {kept}")
            else:
                lines.append(f"({value} {sign} {operand}) mod {self.modulus} = {kept}")
            value = kept
        return lines

    def checks(self) -> list[str]:
        """All at once, and the remainder only at the end."""
        text, value = str(self.start), self.start
        lines = []
        for sign, operand in self.operations:
            value = value + operand if sign == "+" else value * operand
            lines.append(f"{text} {sign} {operand} = {value}")
            text = str(value)
        return [*lines, f"{value} mod {self.modulus} = {self.answer}"]
