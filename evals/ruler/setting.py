"""What all drafts of one task and length share."""

from dataclasses import dataclass
from random import Random

from evals.ruler.tokens import TokenCounter

POSITIONS = tuple(round(100 * step / 39) / 100 for step in range(40))
"""The 40 evenly spaced depths that needles in essays are drawn from."""


@dataclass(frozen=True)
class Setting:
    """length: tokens of prompt, answer and chat template together; `reserved` of them are the template's. answer_tokens:
    the published room for the answer. depths: a fixed grid, or none."""

    task: str
    length: int
    reserved: int
    answer_tokens: int
    seed: int
    counter: TokenCounter
    depths: tuple[float, ...] = ()

    def random(self, index: int) -> Random:
        """Draws sample `index`: the same keys, values and depths at every length and for every tokenizer."""
        return Random(f"{self.seed} {self.task} {index}")

    def room(self, answer: str) -> int:
        """Tokens for an answer: as published; less than 1,024 tokens give an eighth of the length; and always a quarter
        more than the answer has."""
        needed = self.counter.words([answer])[0]
        return max(min(self.answer_tokens, self.length // 8), needed + needed // 4 + 1)

    def budget(self, answer: str) -> int:
        """Tokens for prompt and answer prefix."""
        return self.length - self.reserved - self.room(answer)

    def grid(self, index: int, asked: int) -> list[float]:
        """The depths of the `asked` needles of sample `index`: the samples go through the grid in turn."""
        first = index * asked
        return [self.depths[(first + number) % len(self.depths)] for number in range(asked)]
