"""Validation of a policy: the mean reward of its greedy answers to held-out prompts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evals.episodes.play import Task, play
from model.hybrid import HybridLM
from stages.common.rewards.rewards import Rewards
from stages.grpo.config import GrpoConfig
from stages.grpo.sampling import episode_settings, reward_figures


class HeldOutPrompts:
    """The validator of a GRPO run. A run that fails to grade an answer says so by `validation_failed`."""

    def __init__(
        self,
        tasks: Sequence[Task],
        tokenizer: Any,
        stop_ids: frozenset[int],
        rewards: Rewards,
        config: GrpoConfig,
        check: Callable[[], None],
    ) -> None:
        self._tasks, self._tokenizer, self._stop_ids = tasks, tokenizer, stop_ids
        self._rewards, self._config, self._check = rewards, config, check

    def __call__(self, lm: HybridLM, tokens: int) -> dict[str, float]:
        """Over all prompts, or so many, evenly spread, as could generate `tokens` tokens."""
        if not self._tasks:
            return {}
        wanted = (
            min(len(self._tasks), max(1, tokens // self._config.max_tokens)) if tokens else len(self._tasks)
        )
        picked = np.linspace(0, len(self._tasks) - 1, wanted).round().astype(int)
        episodes = play(
            lm,
            self._tokenizer,
            self._stop_ids,
            [(self._tasks[index], 0) for index in picked],
            episode_settings(self._config, temperature=0.0),
            max_rows=self._config.max_rows,
            check=self._check,
        )
        return reward_figures(self._rewards.of(episodes), prefix="validation_")
