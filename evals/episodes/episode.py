"""An episode: a question and all that came of it, as the tokens of one document and as messages."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from evals.episodes.task import Task
from model.chat.events import ParsedMessage
from model.errors import UsageError
from model.inference.sampling import SamplingParams
from model.inference.thinking import ThinkingBudget


@dataclass(frozen=True)
class EpisodeSettings:
    """How episodes are played.

    max_tokens: of all turns of an episode together; tool results don't count. max_turns: times the model speaks.
    temperature 0 is greedy. thinking_budget: tokens of thinking in each turn, None for no limit; thinking_grace as of
    `ThinkingBudget`. max_length: of the whole document, prompt and tool results included; None for no limit.
    """

    max_tokens: int
    max_turns: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    thinking_budget: int | None = None
    thinking_grace: int = 500
    max_length: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_turns"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{name} of an episode is {getattr(self, name)}", remedy="give a whole number, 1 or more"
                )
        self.sampling(0)
        ThinkingBudget(self.thinking_budget or 0, self.thinking_grace)

    def sampling(self, seed: int) -> SamplingParams:
        return SamplingParams(self.temperature, self.top_p, self.top_k, seed)


class EpisodeEnd(StrEnum):
    """answered: a turn called no tool, or its calls could not be read. length: the tokens were used up. turns: the last
    turn that was allowed called a tool."""

    ANSWERED = "answered"
    LENGTH = "length"
    TURNS = "turns"


@dataclass(frozen=True)
class Turn:
    """What the model said at one time: `ids[start:end]` of the episode, with the token that ended it.

    text: without that token; thinking included. thinking_tokens, answer_tokens: as of a `Completion`. forced: the thinking
    budget closed its thinking.
    """

    start: int
    end: int
    text: str
    thinking_tokens: int
    answer_tokens: int
    forced: bool


@dataclass(frozen=True)
class Episode:
    """A task as it was played.

    ids: prompt, turns and tool results, one document; each turn's tokens as they were sampled, never encoded again.
    sampled: of each token, whether the model chose it: neither prompt, nor tool result, nor put in by the thinking budget.
    logprobs: the engine's, nats, at temperature 1; 0 where not sampled.
    messages: what was said after the task's own messages, as the template takes it.
    response: the last turn's reasoning and content; tool calls and problems of all turns.
    tool_errors: calls whose tool raised an exception, which the model was told.
    """

    task: Task
    seed: int
    ids: list[int]
    sampled: list[bool]
    logprobs: list[float]
    messages: list[dict[str, Any]]
    response: ParsedMessage
    end: EpisodeEnd
    turns: list[Turn]
    tool_errors: int = 0

    @property
    def prompt_length(self) -> int:
        """Tokens before the first turn."""
        return self.turns[0].start

    @property
    def generated_tokens(self) -> int:
        """Tokens of all turns, forced ones included."""
        return sum(turn.end - turn.start for turn in self.turns)
