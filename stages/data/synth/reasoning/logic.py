"""Boolean expressions."""

from dataclasses import dataclass
from typing import Any, Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.reasoning.base import ReasoningProblem


@dataclass(frozen=True)
class Booleans(ReasoningProblem):
    """Evaluate and, or, not over bits: two operations at level 1, one more a level."""

    values: tuple[tuple[str, int], ...]
    expression: Any  # a name, ["not", e], ["and", e, e] or ["or", e, e]

    wordings = Wordings(
        (
            "With {values}, where 1 is true and 0 is false: what is {expression}?",
            "Let {values} (1 means true, 0 means false). Evaluate {expression}.",
            "{values}. Is {expression} true (1) or false (0)?",
        ),
        (
            "Given the bits {values}, which bit is {expression}?",
            "Compute {expression} as 0 or 1 for {values}.",
        ),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        """Both answers are equally likely where the level has both."""
        names = dice.sample("pqrstuvwxyz", min(2 + level // 2, 6))
        wanted = dice.below(2)
        for _ in range(20):
            values = tuple((name, dice.below(2)) for name in sorted(names))
            problem = cls(values, _tree(level + 1, names, dice))
            if problem.answer == wanted:
                break
        return problem

    @property
    def essence(self) -> Any:
        """Names in order of use, and only those used."""
        order: dict[str, int] = {}

        def rename(node: Any) -> Any:
            if isinstance(node, str):
                return [order.setdefault(node, len(order)), dict(self.values)[node]]
            return [node[0], *(rename(part) for part in node[1:])]

        return rename(self.expression)

    @property
    def known(self) -> dict[str, int]:
        return dict(self.values)

    @property
    def answer(self) -> int:
        return self._value(self.expression)

    def _value(self, node: Any) -> int:
        if isinstance(node, str):
            return dict(self.values)[node]
        parts = [self._value(part) for part in node[1:]]
        return 1 - parts[0] if node[0] == "not" else min(parts) if node[0] == "and" else max(parts)

    def words(self) -> dict[str, str]:
        return {
            "values": ", ".join(f"{name} = {bit}" for name, bit in self.values),
            "expression": _bare(_spelled(self.expression, {})),
        }

    def steps(self, long: bool) -> list[str]:
        bits = dict(self.values)
        assignments = [f"{name} = {bit}" for name, bit in self.values] if long else []
        spelled = _spelled(self.expression, {})
        put_in = _spelled(self.expression, bits)
        lines = [*assignments, _bare(put_in) if not long else f"{_bare(spelled)} = {_bare(put_in)}"]
        reduced = self.expression
        while not isinstance(reduced, int):
            operation, reduced = _reduce(reduced, bits)
            lines.append(operation)
            if long and not isinstance(reduced, int):
                lines[-1] += f"; now {_bare(_spelled(reduced, bits))}"
        return lines

    def checks(self) -> list[str]:
        return [f"{_bare(_spelled(self.expression, dict(self.values)))} = {self.answer}"]


def _tree(operations: int, names: list[str], dice: Dice) -> Any:
    if operations == 0:
        return dice.choice(names)
    if dice.chance(0.25):
        inner = _tree(operations - 1, names, dice)
        if inner[0] != "not":
            return ["not", inner]
    before = dice.below(operations)
    left, right = _tree(before, names, dice), _tree(operations - 1 - before, names, dice)
    if left == right and isinstance(left, str):
        right = dice.choice([name for name in names if name != left])
    return [dice.choice(("and", "or")), left, right]


def _spelled(node: Any, bits: dict[str, int]) -> str:
    """The expression with brackets around each operation, and bits instead of the names that have one."""
    if isinstance(node, int | str):
        return str(bits.get(str(node), node))
    parts = [_spelled(part, bits) for part in node[1:]]
    return f"(not {parts[0]})" if node[0] == "not" else f"({parts[0]} {node[0]} {parts[1]})"


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith("(") else text


def _reduce(node: Any, bits: dict[str, int]) -> tuple[str, Any]:
    """Carry out the first operation whose operands are known: its claim, and what is left of the expression."""
    for place, part in enumerate(node[1:], start=1):
        if isinstance(part, list):
            claim, reduced = _reduce(part, bits)
            return claim, [*node[:place], reduced, *node[place + 1 :]]
    operands = [bits[part] if isinstance(part, str) else part for part in node[1:]]
    result = 1 - operands[0] if node[0] == "not" else min(operands) if node[0] == "and" else max(operands)
    return f"{_bare(_spelled([node[0], *operands], {}))} = {result}", result
