"""Chains of variables and linear equations."""

from dataclasses import dataclass
from typing import Any, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.reasoning.base import ReasoningProblem

_LETTERS = "abcdefghjkmnpqrstuvwxyz"  # no i, l, o: they look like digits

Statement = tuple[str, str]
"""A variable and its expression: a number, or `left sign right` with names and numbers, in one text."""


@dataclass(frozen=True)
class Chains(ReasoningProblem):
    """Follow assignments to the value of the last variable.

    Level 1: three steps of + and -. Level 2: four, and a variable that does not matter. Level 3: five, two that do not
    matter, and products. From level 4 on the statements are shuffled and use two variables at once.
    """

    statements: tuple[Statement, ...]
    asked: str

    max_level = 12  # for want of letters

    wordings = Wordings(
        (
            "{statements}. What is {asked}?",
            "Given {statements}, find {asked}.",
            "Let {statements}. Which value has {asked}?",
            "If {statements}, what is {asked}?",
            "Suppose that {statements}. Find {asked}.",
            "It holds that {statements}. Work out {asked}.",
            "{statements}. Find the value of {asked}.",
            "{statements}. Compute {asked}.",
            "What is {asked} if {statements}?",
            "Find {asked}, given that {statements}.",
        ),
        (
            "We know that {statements}. How much is {asked}?",
            "Read this: {statements}. Tell me the value of {asked}.",
        ),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        names = dice.sample(_LETTERS, min(len(_LETTERS), 3 + 2 * level))
        steps, others = level + 2, min(level - 1, 7)
        needed = [names.pop()]
        start = dice.integer(1, 9)
        values = {needed[0]: start}
        statements: list[Statement] = [(needed[0], str(start))]
        for _ in range(steps):
            name = names.pop()
            statements.append((name, _expression(needed, values, level, dice)))
            values[name] = _compute(statements[-1][1], values)
            needed.append(name)
        asked = needed[-1]
        for _ in range(others):
            name = names.pop()
            place = dice.integer(1, len(statements))
            earlier = [item[0] for item in statements[:place]]
            statements.insert(place, (name, _expression([dice.choice(earlier)], values, level, dice)))
            values[name] = _compute(statements[place][1], values)
        if level >= 4:
            statements = dice.shuffled(statements)
        return cls(tuple(statements), asked)

    @property
    def essence(self) -> Any:
        """The statements that matter, with names in order of use."""
        order = self._needed()
        renamed = {name: f"v{number}" for number, (name, _) in enumerate(order)}
        return [[renamed.get(word, word) for word in expression.split()] for _, expression in order]

    def _needed(self) -> list[Statement]:
        """What the asked variable depends on, each after what it uses itself."""
        expressions, order = dict(self.statements), list[Statement]()

        def visit(name: str) -> None:
            if any(name == done for done, _ in order):
                return
            for word in expressions[name].split():
                if word in expressions:
                    visit(word)
            order.append((name, expressions[name]))

        visit(self.asked)
        return order

    @property
    def answer(self) -> int:
        """Evaluates statements in whatever order becomes possible."""
        values: dict[str, int] = {}
        while self.asked not in values:
            for name, expression in self.statements:
                if all(word in values or not word.isalpha() for word in expression.split()):
                    values[name] = _compute(expression, values)
        return values[self.asked]

    def words(self) -> dict[str, str]:
        return {
            "statements": ", ".join(f"{name} = {text}" for name, text in self.statements),
            "asked": self.asked,
        }

    def steps(self, long: bool) -> list[str]:
        order, values, lines = self._needed(), dict[str, int](), list[str]()
        if long:
            lines = [
                f"{name} comes from {' and '.join(_names(text))}"
                for name, text in reversed(order)
                if _names(text)
            ]
        for name, expression in order:
            values[name] = _compute(expression, values)
            if not _names(expression):
                lines.append(f"{name} = {expression}")
            else:
                lines.append(f"{name} = {expression} = {_substituted(expression, values)} = {values[name]}")
        return lines

    def checks(self) -> list[str]:
        """Everything put into one expression."""
        expressions: dict[str, str] = {}
        for name, expression in self._needed():
            text = " ".join(expressions.get(word, word) for word in expression.split())
            expressions[name] = f"({text})" if " " in text else text
        return [f"{expressions[self.asked][1:-1]} = {self.answer}"]


def _expression(names: list[str], values: dict[str, int], level: int, dice: Dice) -> str:
    """The last of `names` and a number or, from level 4 on, another name; results stay from 0 to a bound."""
    bound = 20 if level < 3 else 99 if level < 5 else 999
    name, value = names[-1], values[names[-1]]
    choices = [f"{name} + {dice.integer(1, 9)}", f"{name} - {dice.integer(1, 9)}"]
    if level >= 3:
        choices.append(f"{name} * {dice.integer(2, 4)}")
    if level >= 4 and len(names) > 1:
        other = dice.choice(names[:-1])
        choices += [f"{name} + {other}", f"{name} - {other}"]
    fitting = [text for text in choices if 0 <= _compute(text, values) <= bound]
    return dice.choice(fitting) if fitting else f"{name} - {dice.integer(value // 2, value)}"


def _names(expression: str) -> list[str]:
    return [word for word in expression.split() if word.isalpha()]


def _substituted(expression: str, values: dict[str, int]) -> str:
    return " ".join(str(values.get(word, word)) for word in expression.split())


def _compute(expression: str, values: dict[str, int]) -> int:
    left, *rest = (values[word] if word.isalpha() else word for word in expression.split())
    if not rest:
        return int(left)
    sign, right = rest
    return {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}[str(sign)]


@dataclass(frozen=True)
class Equations(ReasoningProblem):
    """Solve for x: a x + b = c at level 1, brackets at level 2, x on both sides at 3, both from 4 on.

    The equation is a(x + s) + b = cx + d; c = 0 and s = 0 where the level has no such part.
    """

    a: int
    s: int
    b: int
    c: int
    d: int

    wordings = Wordings(
        ("Solve for x: {equation}.", "{equation}. Find x.", "Which x makes {equation} true?"),
        ("For which value of x do we have {equation}?", "{equation}. How large is x?"),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        x = dice.integer(1, 6 * level + 6)
        c = dice.integer(2, 5 + level) if level >= 3 else 0
        a = c + dice.integer(2, 7 + level)
        s = dice.integer(1, 9) if level == 2 or level >= 4 else 0
        b = 0 if level == 2 else dice.integer(1, 10 * level + 10)
        return cls(a, s, b, c, a * (x + s) + b - c * x)

    @property
    def answer(self) -> int:
        return (self.d - self.b - self.a * self.s) // (self.a - self.c)

    @property
    def known(self) -> dict[str, int]:
        return {"x": self.answer}

    def words(self) -> dict[str, str]:
        left = f"{self.a}(x + {self.s})" if self.s else f"{self.a}x"
        return {"equation": _signed(left, self.b) + " = " + self._right()}

    def _right(self) -> str:
        return _signed(f"{self.c}x", self.d) if self.c else str(self.d)

    def steps(self, long: bool) -> list[str]:
        lines, constant = [], self.b
        if self.s:
            lines.append(f"{self.a} * {self.s} = {self.a * self.s}")
            constant += self.a * self.s
            if self.b:
                lines.append(f"{self.a * self.s} + {self.b} = {constant}")
            lines.append(f"{_signed(f'{self.a}x', constant)} = {self._right()}")
        slope, right = self.a - self.c, self.d - constant
        if self.c:
            if long:
                lines.append(f"take {self.c}x from both sides: {self.a} - {self.c} = {slope}")
            lines.append(f"{_signed(f'{slope}x', constant)} = {self.d}")
        if long:
            lines.append(f"take {constant} from both sides: {self.d} - {constant} = {right}")
        lines.append(f"{slope}x = {self.d} - {constant} = {right}")
        if long:
            lines.append(f"divide both sides by {slope}")
        return [*lines, f"x = {right} / {slope} = {self.answer}"]

    def checks(self) -> list[str]:
        x, lines = self.answer, []
        left = f"{self.a} * ({x} + {self.s})" if self.s else f"{self.a} * {x}"
        value = self.a * (x + self.s) + self.b
        lines.append(f"left: {_signed(left, self.b)} = {value}")
        right = _signed(f"{self.c} * {x}", self.d) if self.c else str(self.d)
        return [*lines, f"right: {right} = {value}"]


def _signed(left: str, constant: int) -> str:
    """`left + constant`, with a minus where it is negative and nothing where it is 0."""
    return f"{left} + {constant}" if constant > 0 else f"{left} - {-constant}" if constant else left
