"""What a part of a reward gives: values, or why there are none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evals.episodes.play import Episode


@dataclass(frozen=True)
class Failure:
    """Why a part has no value for a sample."""

    reason: str


def counted(reasons: Counter[str]) -> str:
    """The most frequent reasons, and how often each came."""
    return "; ".join(f"{reason} ({count} times)" for reason, count in reasons.most_common(3))


class Part(Protocol):
    """One of the things that a reward is made of."""

    def values(self, episodes: Sequence[Episode]) -> list[float | Failure]:
        """Of each episode its value, or why there is none."""

    def close(self) -> None:
        """End what the part has started."""
