"""Variable tracking (vt): a chain of assignments in noise, of which every variable is to be found."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from string import ascii_uppercase

from evals.ruler.drafts import Draft
from evals.ruler.haystacks import Noise, insert
from evals.ruler.setting import Setting

HOPS = 4
_EXAMPLE_TOKENS = 500
"""The worked example has as much noise as fits into that, and into a quarter of the length."""

_TASK = """Follow the chain of variable assignments that is hidden in the text below.

{text}
Question: Which variables are assigned the value {value} in the text above?"""
_PREFIX = (
    "Answer: By the chain of assignments in the text above, {count} variables are assigned the value {value}:"
)


def track_variables(setting: Setting) -> Callable[[int], Draft]:
    noise = Noise(setting.length, setting.counter)
    return lambda index: TrackingDraft(setting, noise, index)


@dataclass(frozen=True)
class _Chain:
    """The first variable is assigned the value, each other one the variable before it."""

    variables: tuple[str, ...]
    value: str

    @classmethod
    def draw(cls, random: Random, letters: int, other_than: str = "") -> "_Chain":
        variables: dict[str, None] = {}
        while len(variables) <= HOPS:
            variables["".join(random.choices(ascii_uppercase, k=letters))] = None
        while (value := str(random.randrange(10_000, 100_000))) == other_than:
            pass
        return cls(tuple(variables), value)

    @property
    def answer_prefix(self) -> str:
        return _PREFIX.format(count=len(self.variables), value=self.value)

    @property
    def answer(self) -> str:
        return " ".join(self.variables)

    def prompt(self, lines: list[str], places: list[int]) -> str:
        sources = (self.value, *(f"VAR {variable}" for variable in self.variables))
        assignments = [
            f"VAR {variable} = {source}" for variable, source in zip(self.variables, sources, strict=False)
        ]
        return _TASK.format(text="\n".join(insert(lines, assignments, places)), value=self.value)


def _places(lines: int, random: Random) -> list[int]:
    """Lines before each assignment, ascending; at another line each where there are enough."""
    if lines > HOPS:
        return sorted(random.sample(range(lines), HOPS + 1))
    return sorted(random.choices(range(lines + 1), k=HOPS + 1))


class TrackingDraft:
    """One sample. The size is in sentences of noise."""

    def __init__(self, setting: Setting, noise: Noise, index: int) -> None:
        random = setting.random(index)
        self._noise = noise
        self._chain = _Chain.draw(random, letters=5)
        self._seed = random.getrandbits(64)
        self._example = _worked_example(setting, noise, self._chain.value, random)
        self.answers = self._chain.variables
        self.answer_prefix, self.answer_text = self._chain.answer_prefix, self._chain.answer
        self.least, self.most = noise.least, noise.most
        alone = f"{self._example}{self._chain.prompt([], [0] * len(self.answers))} {self.answer_prefix}"
        self._fixed = setting.counter.count([alone])[0]

    def tokens(self, size: int) -> int:
        return self._fixed + self._noise.tokens(size)

    def render(self, size: int) -> tuple[str, tuple[float, ...]]:
        lines = self._noise.parts(size)
        places = _places(len(lines), Random(self._seed))
        return self._example + self._chain.prompt(lines, places), tuple(
            place / len(lines) for place in places
        )


def _worked_example(setting: Setting, noise: Noise, value: str, random: Random) -> str:
    """A task with its answer, of variables of three letters, so that none of them can be one of the sample's."""
    chain = _Chain.draw(random, letters=3, other_than=value)
    seed = random.getrandbits(64)

    def text(size: int) -> str:
        lines = noise.parts(size)
        places = _places(len(lines), Random(seed))
        return f"{chain.prompt(lines, places)} {chain.answer_prefix} {chain.answer}\n\n"

    room = min(_EXAMPLE_TOKENS, setting.length // 4) - setting.counter.count([text(0)])[0]
    return text(max(1, bisect_right(range(1, noise.most), room, key=noise.tokens)))
