"""The eight needle tasks: special magic numbers or uuids for keys, hidden in a haystack; some are asked for."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from evals.ruler.drafts import Draft
from evals.ruler.haystacks import Essays, Haystack, Lines, Noise, insert, place
from evals.ruler.material import words
from evals.ruler.setting import POSITIONS, Setting

Kind = Literal["word", "number", "uuid"]

_NEEDLE = "A special magic {value_kind} for {key} is: {value}."
_ONE = """A special magic {value_kind} is hidden in the text below. Remember it, because you will be asked for it.
{context}
What is the special magic {value_kind} for {keys} in the text above?"""
_ONE_PREFIX = "The special magic {value_kind} for {keys} in the text above is"
_SEVERAL = """Special magic {value_kind}s are hidden in the text below. Remember them, because you will be asked for them.
{context}
What are all the special magic {value_kind}s for {keys} in the text above?"""
_SEVERAL_PREFIX = "The special magic {value_kind}s for {keys} in the text above are"


@dataclass(frozen=True)
class NeedleTask:
    """keys: needles that are hidden, of `values` values each. asked: keys that are asked for, with all their values."""

    haystack: Literal["noise", "essays", "needles"]
    key: Kind = "word"
    value: Kind = "number"
    keys: int = 1
    values: int = 1
    asked: int = 1

    def __call__(self, setting: Setting) -> Callable[[int], Draft]:
        return lambda index: NeedleDraft(self, setting, index)


class NeedleDraft:
    """One sample. The size is the haystack's."""

    def __init__(self, task: NeedleTask, setting: Setting, index: int) -> None:
        random = setting.random(index)
        keys = Distinct(task.key, random)
        values = Distinct(task.value, random)
        asked_keys = [keys() for _ in range(task.asked)]
        other_keys = [keys() for _ in range(task.keys - task.asked)]
        self.answers = tuple(values() for _ in range(task.asked * task.values))
        others = [values() for _ in range(len(other_keys) * task.values)]
        self._needles = [
            _NEEDLE.format(value_kind=task.value, key=key, value=value)
            for key, value in zip(
                [key for key in (*asked_keys, *other_keys) for _ in range(task.values)],
                (*self.answers, *others),
                strict=True,
            )
        ]
        self._depths = _depths(task, setting, index, len(self._needles), random)
        self._haystack = _haystack(task, setting, keys, values, random)
        self.least, self.most = self._haystack.least, self._haystack.most

        one = len(self.answers) == 1
        self._frame = (_ONE if one else _SEVERAL).format(
            value_kind=task.value, keys=_listed(asked_keys), context="{context}"
        )
        self.answer_prefix = (_ONE_PREFIX if one else _SEVERAL_PREFIX).format(
            value_kind=task.value, keys=_listed(asked_keys)
        )
        self.answer_text = _listed(self.answers)
        fixed = self._prompt(self._needles)
        self._fixed = setting.counter.count([f"{fixed} {self.answer_prefix}"])[0]

    def tokens(self, size: int) -> int:
        return self._fixed + self._haystack.tokens(size)

    def render(self, size: int) -> tuple[str, tuple[float, ...]]:
        parts = self._haystack.parts(size)
        places = [place(parts, depth) for depth in self._depths]
        return self._prompt(insert(parts, self._needles, places)), tuple(self._depths[: len(self.answers)])

    def _prompt(self, parts: list[str]) -> str:
        return self._frame.replace("{context}", self._haystack.separator.join(parts))


class Distinct:
    """Draws keys or values, never one twice."""

    def __init__(self, kind: Kind, random: Random) -> None:
        self._kind = kind
        self._random = random
        self._seen: set[str] = set()

    def __call__(self) -> str:
        while (drawn := self._draw()) in self._seen:
            pass
        self._seen.add(drawn)
        return drawn

    def _draw(self) -> str:
        if self._kind == "number":
            return str(self._random.randrange(10**6, 10**7))
        if self._kind == "uuid":
            return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        return f"{self._random.choice(words().adjectives)}-{self._random.choice(words().nouns)}"


def _depths(task: NeedleTask, setting: Setting, index: int, needles: int, random: Random) -> list[float]:
    """Of each needle, those that are asked for first. In essays they are drawn without repeating from POSITIONS; a needle
    among lines stands at a random line."""
    drawn = random.sample(POSITIONS, needles) if task.haystack == "essays" else [random.random()]
    if not setting.depths:
        return drawn
    on_grid = setting.grid(index, task.asked * task.values)
    return [*on_grid, *drawn[len(on_grid) :]]


def _haystack(
    task: NeedleTask, setting: Setting, keys: Distinct, values: Distinct, random: Random
) -> Haystack:
    if task.haystack == "noise":
        return Noise(setting.length, setting.counter)
    if task.haystack == "essays":
        return Essays(setting.length, setting.counter, random)
    return Lines(
        setting.length,
        setting.counter,
        lambda: _NEEDLE.format(value_kind=task.value, key=keys(), value=values()),
    )


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
