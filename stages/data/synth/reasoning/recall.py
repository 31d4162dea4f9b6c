"""What takes no reasoning but an exact memory of what was read."""

from dataclasses import dataclass
from typing import Self

from stages.data.synth.dice import Dice
from stages.data.synth.problem import Wordings
from stages.data.synth.reasoning.base import ReasoningProblem


@dataclass(frozen=True)
class Copies(ReasoningProblem):
    """A long number, to be written again: four digits a level."""

    number: int

    wordings = Wordings(
        ("Write this number again: {number}.", "Copy the number {number}.", "{number} - repeat it."),
        ("Here is a number, {number}. What is it?", "Say {number} once more."),
    )

    @classmethod
    def draw(cls, level: int, dice: Dice) -> Self:
        return cls(dice.digits(4 * level))

    @property
    def answer(self) -> int:
        return self.number

    def words(self) -> dict[str, str]:
        return {"number": str(self.number)}

    def steps(self, long: bool) -> list[str]:
        lines = ["I read it digit by digit: " + " ".join(str(self.number))] if long else []
        return [*lines, f"the number is {self.number}"]

    def checks(self) -> list[str]:
        return ["once more: " + " ".join(str(self.number))]

    def verify(self, lines: list[str]) -> None:
        """A line has all of the number's digits in their order, or none."""
        for line in lines:
            if "".join(filter(str.isdigit, line)) not in ("", str(self.number)):
                raise ValueError(f"{line!r} has other digits")
