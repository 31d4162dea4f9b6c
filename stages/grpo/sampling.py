"""Groups of episodes from the model as it is, with their rewards and advantages."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

import torch

from evals.episodes.play import Episode, EpisodeEnd, EpisodeSettings, play
from model.errors import ArtifactError
from model.hybrid import HybridLM
from stages.common.rewards.part import counted
from stages.common.rewards.rewards import Reward, Rewards
from stages.grpo.batch import Rollout
from stages.grpo.config import GrpoConfig
from stages.grpo.loss import advantages, all_equal
from stages.grpo.prompts import Prompts


@dataclass(frozen=True)
class Group:
    """The episodes of one prompt. advantages: 0 for a sample without a reward."""

    number: int
    episodes: list[Episode]
    rewards: list[Reward]
    advantages: list[float]

    @property
    def equal(self) -> bool:
        """Nothing can be learned from it: all rewards are equal, or fewer than two are there."""
        return all_equal(_totals(self.rewards))


@dataclass(frozen=True)
class Sampled:
    """Groups for one batch. next_prompt: the first prompt that was not asked. replaced: groups of equal rewards that others
    stand for."""

    groups: list[Group]
    next_prompt: int
    replaced: int


class Sampler:
    """Plays groups with a model that changes between calls."""

    def __init__(
        self,
        lm: HybridLM,
        tokenizer: Any,
        stop_ids: frozenset[int],
        prompts: Prompts,
        rewards: Rewards,
        config: GrpoConfig,
        check: Callable[[], None],
    ) -> None:
        self.tokenizer = tokenizer
        self._lm, self._stop_ids = lm, stop_ids
        self._prompts, self._rewards = prompts, rewards
        self._config, self._check = config, check
        self._settings = episode_settings(config, temperature=config.temperature)

    def sample(self, first: int, where: str) -> Sampled:
        """The groups of a batch whose first prompt is number `first`.

        A group of equal rewards is replaced by that of the next prompt, `resample` times at most; what is equal then stays.
        Raises ArtifactError when more than `max_failed` of all samples have no reward.
        """
        kept: list[Group] = []
        replaced, number = 0, first
        everything: list[Reward] = []
        for round_left in range(self._config.resample, -1, -1):
            wanted = self._config.prompts - len(kept)
            groups = self._play(range(number, number + wanted))
            number += wanted
            everything += [reward for group in groups for reward in group.rewards]
            self._refuse_failures(everything, where)
            useful = [group for group in groups if not (round_left and group.equal)]
            replaced += len(groups) - len(useful)
            kept += useful
            if len(kept) == self._config.prompts:
                break
        return Sampled(kept, number, replaced)

    def _play(self, numbers: Sequence[int]) -> list[Group]:
        samples = self._config.samples
        asked = []
        for number in numbers:
            task = self._prompts.task(number)
            asked += [(task, seed) for seed in self._prompts.seeds(number, samples)]
        training = self._lm.training
        self._lm.eval()
        episodes = play(
            self._lm,
            self.tokenizer,
            self._stop_ids,
            asked,
            self._settings,
            max_rows=self._config.max_rows,
            check=self._check,
        )
        self._lm.train(training)
        rewards = self._rewards.of(episodes)
        return [
            self._group(number, episodes[start : start + samples], rewards[start : start + samples])
            for number, start in zip(numbers, range(0, len(episodes), samples), strict=True)
        ]

    def _group(self, number: int, episodes: list[Episode], rewards: list[Reward]) -> Group:
        better = advantages(
            _totals(rewards), baseline=self._config.baseline, normalize=self._config.normalize
        )
        return Group(number, episodes, rewards, better.tolist())

    def _refuse_failures(self, rewards: Sequence[Reward], where: str) -> None:
        failed = sum(bool(reward.failures) for reward in rewards)
        if failed <= self._config.max_failed * len(rewards):
            return
        raise ArtifactError(
            f"{failed} of {len(rewards)} samples have no reward: {failure_reasons(rewards)}",
            where=where,
            remedy="see to the cause and run the same command again, which continues; or raise --max-failed",
        )


def episode_settings(config: GrpoConfig, *, temperature: float) -> EpisodeSettings:
    return EpisodeSettings(
        max_tokens=config.max_tokens,
        max_turns=config.max_turns,
        temperature=temperature,
        thinking_budget=config.thinking_budget,
        thinking_grace=config.thinking_grace,
        max_length=config.seq_len,
    )


def trained(groups: Sequence[Group], *, overlong: str) -> list[Rollout]:
    """The episodes that are trained: those with a reward and a token of the model. Where `overlong` is "mask", none that was
    cut at the token limit."""
    return [
        Rollout(episode, advantage)
        for group in groups
        for episode, reward, advantage in zip(group.episodes, group.rewards, group.advantages, strict=True)
        if not math.isnan(reward.total)
        and any(episode.sampled)
        and not (overlong == "mask" and episode.end is EpisodeEnd.LENGTH)
    ]


def figures(groups: Sequence[Group], replaced: int) -> dict[str, float]:
    """What a log line says of a batch of rollouts. Shares are of its episodes, those of groups of the groups."""
    episodes = [episode for group in groups for episode in group.episodes]
    rewards = [reward for group in groups for reward in group.rewards]
    lengths = [episode.generated_tokens for episode in episodes]
    return {
        **reward_figures(rewards),
        "length": fmean(lengths),
        "length_max": max(lengths),
        "truncated": fmean(episode.end is EpisodeEnd.LENGTH for episode in episodes),
        "out_of_turns": fmean(episode.end is EpisodeEnd.TURNS for episode in episodes),
        "malformed": fmean(bool(episode.response.problems) for episode in episodes),
        "thinking_closed": fmean(any(turn.forced for turn in episode.turns) for episode in episodes),
        "turns": fmean(len(episode.turns) for episode in episodes),
        "tool_calls": fmean(len(episode.response.tool_calls) for episode in episodes),
        "tool_errors": sum(episode.tool_errors for episode in episodes),
        "equal_groups": fmean(group.equal for group in groups),
        "replaced_groups": replaced,
    }


def reward_figures(rewards: Sequence[Reward], prefix: str = "") -> dict[str, float]:
    """Mean and standard deviation of the rewards and of each part over the samples that have it, none where no sample has;
    how many have failed."""
    told: dict[str, float] = {}
    names = {"reward": [reward.total for reward in rewards]}
    names |= {f"reward_{name}": [reward.parts[name] for reward in rewards] for name in rewards[0].parts}
    for name, values in names.items():
        if finite := [value for value in values if not math.isnan(value)]:
            told |= {prefix + name: fmean(finite), f"{prefix}{name}_std": pstdev(finite)}
    return {**told, f"{prefix}failed": sum(bool(reward.failures) for reward in rewards)}


def failure_reasons(rewards: Iterable[Reward]) -> str:
    """Why samples have no reward, the most frequent reasons first."""
    return counted(Counter(reason for reward in rewards for reason in reward.failures))


def shown(groups: Sequence[Group], tokenizer: Any, most: int) -> list[dict[str, Any]]:
    """Some episodes for reading, each from another group as far as there are as many."""
    lines = []
    for index in range(min(most, sum(len(group.episodes) for group in groups))):
        sample, place = divmod(index, len(groups))
        group = groups[place]
        episode, reward = group.episodes[sample], group.rewards[sample]
        start = episode.prompt_length
        lines.append(
            {
                "prompt": tokenizer.decode(episode.ids[:start], skip_special_tokens=False),
                "text": tokenizer.decode(episode.ids[start:], skip_special_tokens=False),
                "id": episode.task.id,
                "end": str(episode.end),
                "tokens": episode.generated_tokens,
                "reward": _number(reward.total),
                "parts": {name: _number(value) for name, value in reward.parts.items()},
                "failures": list(reward.failures),
                "advantage": group.advantages[sample],
            }
        )
    return lines


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _totals(rewards: Sequence[Reward]) -> torch.Tensor:
    return torch.tensor([reward.total for reward in rewards], dtype=torch.float64)
