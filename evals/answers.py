"""A generated answer: the string that lm-eval scores, and what it does not ask for, how the answer came about.

lm-eval takes strings from a model and hands them on as they are; an `Answer` is one that remembers. What becomes of an
answer is told in four words, of which exactly one applies: `right`, `wrong`, `malformed`, `unfinished`. Format is so kept
apart from correctness: whoever is cut off, or closes the thinking twice, has not given a wrong answer but none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from evals.graders.grade import Grade, grade
from model.chat.events import ParsedMessage, joined
from model.chat.parsers import parse


class Outcome(StrEnum):
    """unfinished: cut at the token limit, in the thinking or in the answer. malformed: ended, but the parser found a
    defect (thinking not closed exactly once, a broken tool call). right: full marks; wrong: less."""

    RIGHT = "right"
    WRONG = "wrong"
    MALFORMED = "malformed"
    UNFINISHED = "unfinished"


OUTCOMES = tuple(str(outcome) for outcome in Outcome)
TOKEN_COUNTS = ("thinking_tokens", "answer_tokens")
"""The names of metrics that an evaluation of a chat adds; `well_formed` is another."""


@dataclass(frozen=True)
class Generated:
    """What a model generated for one request.

    text: all of it, thinking included, without what stopped it. opened: the prompt ended inside the thinking.
    cut: it ended at the token limit. forced: the thinking was closed by the budget. temperature: 0 is greedy, and then
    `seed` means nothing.
    """

    text: str
    opened: bool
    cut: bool
    thinking_tokens: int
    answer_tokens: int
    forced: bool
    temperature: float
    seed: int

    @cached_property
    def message(self) -> ParsedMessage:
        """The text as thinking, answer and tool calls."""
        return parse(self.text, thinking=self.opened)

    @property
    def well_formed(self) -> bool:
        """Thinking, where there is any, was closed exactly once, and every tool call can be read."""
        return self.message.well_formed

    @property
    def last_turn(self) -> str:
        """What an answer is looked for in."""
        return self.text

    def record(self) -> dict[str, Any]:
        """How it came about, for a line of samples."""
        return {
            "text": self.text,
            "finish_reason": "length" if self.cut else "stop",
            "well_formed": self.well_formed,
            "problems": [str(problem.defect) for problem in self.message.problems],
            "thinking_tokens": self.thinking_tokens,
            "answer_tokens": self.answer_tokens,
            "forced": self.forced,
            **({"temperature": self.temperature, "seed": self.seed} if self.temperature else {}),
        }

    def outcome(self, right: bool) -> Outcome:
        """`right`: its answer, as far as there is one, gets full marks."""
        if self.cut:
            return Outcome.UNFINISHED
        if not self.well_formed:
            return Outcome.MALFORMED
        return Outcome.RIGHT if right else Outcome.WRONG


@dataclass(frozen=True)
class Played(Generated):
    """An episode of several turns. text: all of it as the model saw it, tool results between the turns.

    turns: what the model said each time. end: `evals.episodes.episode.EpisodeEnd`; whatever is not answered is cut.
    tool_errors: calls whose tool raised an exception.
    """

    turns: tuple[str, ...]
    end: str
    tool_errors: int

    @cached_property
    def message(self) -> ParsedMessage:
        return joined([parse(turn, thinking=self.opened) for turn in self.turns])

    @property
    def last_turn(self) -> str:
        return self.turns[-1]

    def record(self) -> dict[str, Any]:
        return {
            **super().record(),
            "end": self.end,
            "turns": len(self.turns),
            "calls": len(self.message.tool_calls),
            "tool_errors": self.tool_errors,
        }


class Answer(str):
    """The text that is scored: what follows the thinking. detail: what its grader said of it."""

    generated: Generated
    detail: str = ""

    @classmethod
    def of(cls, generated: Generated, think_end: str | None) -> "Answer":
        """The text behind the last `think_end`; nothing if thinking was opened and never ended; without `think_end`,
        all of the text."""
        text = generated.last_turn
        if think_end:
            _, ended, behind = text.rpartition(think_end)
            text = behind.lstrip() if ended else "" if generated.opened else text
        answer = cls(text)
        answer.generated = generated
        return answer

    def record(self) -> dict[str, Any]:
        """How it came about, for a line of samples."""
        return self.generated.record() | ({"detail": self.detail} if self.detail else {})


def grade_answer(spec: Mapping[str, Any], answer: str) -> Grade:
    """The grade of what was generated, whose reason the answer then remembers. A plain text, of a model that is not
    ours, is parsed as it is."""
    if not isinstance(answer, Answer):
        return grade(spec, parse(answer))
    verdict = grade(spec, answer.generated.message)
    answer.detail = verdict.detail
    return verdict
