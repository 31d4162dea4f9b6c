"""Episodes as answers of an evaluation: what one is asked, what decides its answer, and what is kept of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evals.answers import Played
from evals.episodes.episode import Episode, EpisodeEnd, EpisodeSettings
from evals.episodes.task import Task
from evals.generation_settings import GenerationSettings
from model.errors import UsageError

DEFAULT_MAX_TURNS = 20
"""So many had the agent of the WorkBench benchmark."""


@dataclass(frozen=True)
class AskedEpisode:
    """A task to be played with a seed. prompt: a hash of its tokens. opened: it ends inside of the thinking."""

    task: Task
    seed: int
    settings: EpisodeSettings
    prompt: str
    opened: bool

    @property
    def content(self) -> dict[str, Any]:
        """All but the model and its stop tokens that decides what becomes of it, for a key."""
        return {
            "kind": "episode",
            "prompt": self.prompt,
            "grader": self.task.grader,
            "seed": self.seed if self.settings.temperature else None,
            "settings": asdict(self.settings),
        }

    def answer(self, kept: Mapping[str, Any]) -> Played:
        """From what `kept` gave."""
        return Played(
            opened=self.opened,
            temperature=self.settings.temperature,
            seed=self.seed,
            **{**kept, "turns": tuple(kept["turns"])},
        )


def episode_settings(wanted: GenerationSettings, max_length: int, task: str) -> EpisodeSettings:
    """UsageError for what an episode cannot have. max_length: tokens that the model reads."""
    if wanted.stop:
        raise UsageError(
            f"until is {list(wanted.stop)}, and an episode has no stop strings",
            where=f"task {task}",
            remedy="take it out",
        )
    return EpisodeSettings(
        max_tokens=wanted.max_tokens,
        max_turns=DEFAULT_MAX_TURNS if wanted.max_turns is None else wanted.max_turns,
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        top_k=wanted.top_k,
        thinking_budget=wanted.thinking_budget,
        thinking_grace=wanted.thinking_grace,
        max_length=max_length,
    )


def kept(episode: Episode, tokenizer: Any, stop_ids: frozenset[int]) -> dict[str, Any]:
    """What is remembered of an episode: the fields of `Played` that were not asked for."""
    turns = episode.turns
    end = turns[-1].end - (episode.ids[turns[-1].end - 1] in stop_ids)
    return {
        "text": tokenizer.decode(episode.ids[episode.prompt_length : end], skip_special_tokens=False),
        "cut": episode.end is not EpisodeEnd.ANSWERED,
        "thinking_tokens": sum(turn.thinking_tokens for turn in turns),
        "answer_tokens": sum(turn.answer_tokens for turn in turns),
        "forced": any(turn.forced for turn in turns),
        "turns": [turn.text for turn in turns],
        "end": episode.end,
        "tool_errors": episode.tool_errors,
    }
