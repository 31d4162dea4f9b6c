"""A reward model's scores as rewards."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from evals.episodes.play import Episode
from model.errors import Nano2Error
from model.reward import Conversation, RewardModel
from stages.common.rewards.part import Failure
from stages.common.rewards.settings import ModelReward

_TOGETHER = 32


class Scoring:
    """The part `model` of a reward. What is scored is what was said, without its reasoning."""

    def __init__(self, settings: ModelReward, device: Any, check: Callable[[], None]) -> None:
        self._settings = settings
        self._check = check
        self._model = RewardModel.load(settings.path, device)

    def values(self, episodes: Sequence[Episode]) -> list[float | Failure]:
        found: list[float | Failure] = []
        for start in range(0, len(episodes), _TOGETHER):
            self._check()
            together = episodes[start : start + _TOGETHER]
            started = time.monotonic()
            values = self._scores(together)
            if time.monotonic() - started > self._settings.seconds * len(together):
                values = [Failure(f"not done within {self._settings.seconds:g} seconds")] * len(together)
            found += values
        return found

    def close(self) -> None: ...

    def _scores(self, episodes: Sequence[Episode]) -> list[float | Failure]:
        try:
            scores = self._model.score([conversation_of(episode) for episode in episodes])
        except Nano2Error as error:
            if len(episodes) == 1:
                return [Failure(str(error))]
            return [value for episode in episodes for value in self._scores([episode])]
        return [(score - self._settings.shift) / self._settings.scale for score in scores]


def conversation_of(episode: Episode) -> Conversation:
    """The whole chat, which ends in the assistant's last turn."""
    return Conversation([*episode.task.messages, *episode.messages], episode.task.tools)
