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

    def prompt(self, lines: list[str], depths: list[float]) -> str:
        sources = (self.value, *(f"VAR {variable}" for variable in self.variables))
        assignments = [
            f"VAR {variable} = {source}" for variable, source in zip(self.variables, sources, strict=False)
        ]
        return _TASK.format(text="\n".join(insert(lines, assignments, depths)), value=self.value)


def _depths(lines: int, random: Random) -> list[float]:
    """Ascending shares of the lines, at another line each where there are enough."""
    places = (
        random.sample(range(lines), HOPS + 1) if lines > HOPS else random.choices(range(lines), k=HOPS + 1)
    )
    return [place / lines for place in sorted(places)]


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
        alone = f"{self._example}{self._chain.prompt([], [0.0] * len(self.answers))} {self.answer_prefix}"
        self._fixed = setting.counter.count([alone])[0]

    def tokens(self, size: int) -> int:
        return self._fixed + self._noise.tokens(size)

    def render(self, size: int) -> tuple[str, tuple[float, ...]]:
        lines = self._noise.parts(size)
        depths = _depths(len(lines), Random(self._seed))
        return self._example + self._chain.prompt(lines, depths), tuple(depths)


def _worked_example(setting: Setting, noise: Noise, value: str, random: Random) -> str:
    """A task with its answer, of variables of three letters, so that none of them can be one of the sample's."""
    chain = _Chain.draw(random, letters=3, other_than=value)

    def text(size: int) -> str:
        lines = noise.parts(size)
        depths = _depths(len(lines), random) if lines else [0.0] * (HOPS + 1)
        return f"{chain.prompt(lines, depths)} {chain.answer_prefix} {chain.answer}\n\n"

    room = min(_EXAMPLE_TOKENS, setting.length // 4) - setting.counter.count([text(0)])[0]
    return text(max(1, bisect_right(range(1, noise.most), room, key=noise.tokens)))
