"""The rewards of episodes: a weighted sum of parts, each bounded in time.

A part that raises, runs past its time or is not finite makes the sample's reward NaN, and the reward says why. Only what
no sample could be spared (a refused API key, a machine that cannot run code) is an error at once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.episodes.play import Episode
from stages.common.rewards.grading import Grading
from stages.common.rewards.part import Failure, Part
from stages.common.rewards.scoring import Scoring
from stages.common.rewards.settings import (
    GraderReward,
    JudgeReward,
    LengthReward,
    ModelReward,
    RewardPart,
    names,
)


@dataclass(frozen=True)
class Reward:
    """total: the weighted sum. parts: each value, before its weight. NaN where a part failed; `failures` says why."""

    total: float
    parts: Mapping[str, float]
    failures: tuple[str, ...] = ()


class Rewards:
    """The parts that a recipe names, ready to judge. `check` is called now and then and may raise, to end the work."""

    def __init__(
        self,
        parts: Sequence[RewardPart],
        *,
        device: Any = "cpu",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._weights = dict(zip(names(tuple(parts)), (part.weight for part in parts), strict=True))
        self._parts = {part.name: _open(part, device, check) for part in parts}

    def of(self, episodes: Sequence[Episode]) -> list[Reward]:
        """One reward an episode, in their order."""
        values = {name: part.values(episodes) for name, part in self._parts.items()}
        return [self._sum({name: values[name][index] for name in values}) for index in range(len(episodes))]

    def close(self) -> None:
        """End the processes of the parts."""
        for part in self._parts.values():
            part.close()

    def __enter__(self) -> "Rewards":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sum(self, values: Mapping[str, float | Failure]) -> Reward:
        parts: dict[str, float] = {}
        failures = []
        for name, value in values.items():
            if not isinstance(value, Failure) and not math.isfinite(value):
                value = Failure(f"its value is {value}")
            if isinstance(value, Failure):
                failures.append(f"{name}: {value.reason}")
                parts[name] = math.nan
            else:
                parts[name] = value
        total = math.fsum(self._weights[name] * value for name, value in parts.items())
        return Reward(total, parts, tuple(failures))


def _open(part: RewardPart, device: Any, check: Callable[[], None]) -> Part:
    if isinstance(part, GraderReward):
        return Grading(part, check)
    if isinstance(part, LengthReward):
        return _Length(part)
    if isinstance(part, ModelReward):
        return Scoring(part, device, check)
    assert isinstance(part, JudgeReward)
    from stages.common.rewards.judge import Judge  # openai takes a second to import

    return Judge(part, check)


class _Length:
    def __init__(self, settings: LengthReward) -> None:
        self._settings = settings

    def values(self, episodes: Sequence[Episode]) -> list[float | Failure]:
        return [self._penalty(sum(episode.sampled)) for episode in episodes]

    def _penalty(self, tokens: int) -> float:
        free = self._settings.max_tokens - self._settings.buffer
        return -min(1.0, max(0.0, (tokens - free) / self._settings.buffer))

    def close(self) -> None: ...
