"""Episodes as `evals.episodes.play` gives them, made by hand."""

from collections.abc import Mapping
from typing import Any

from evals.episodes.play import Episode, EpisodeEnd, Task, Turn
from model.chat.parsers import parse

RIGHT = {"name": "math", "answer": "7"}


def episode(
    text: str,
    grader: Mapping[str, Any] | None = RIGHT,
    *,
    tokens: int = 4,
    end: EpisodeEnd = EpisodeEnd.ANSWERED,
    thinking: bool = False,
) -> Episode:
    """One turn of `tokens` tokens that says `text` to "What is 3 + 4?"."""
    response = parse(text, thinking=thinking)
    return Episode(
        task=Task(
            [{"role": "user", "content": "What is 3 + 4?"}], None, thinking, grader, "a", "a.jsonl line 1"
        ),
        seed=0,
        ids=list(range(10, 13 + tokens)),
        sampled=[False] * 3 + [True] * tokens,
        logprobs=[0.0] * 3 + [-1.0] * tokens,
        messages=[response.as_message()],
        response=response,
        end=end,
        turns=[Turn(3, 3 + tokens, text, 0, tokens, forced=False)],
    )
