"""Nothing is written that its own grader would not accept."""

import json
from functools import lru_cache
from typing import Any

from evals.chat_lines import parse_sample
from evals.graders.grade import grade
from model.chat.events import ParsedMessage
from model.chat.tool_calls import ToolCall


def verify(line: dict[str, Any]) -> None:
    """Check a row: it is chat jsonl, and its grader gives the reference answer 1. AssertionError if not."""
    parse_sample(line, line["id"])
    answer = (line["messages"] if "messages" in line else line["completion"])[-1]
    calls = tuple(
        (call["function"]["name"], call["function"]["arguments"]) for call in answer.get("tool_calls", ())
    )
    score, detail = _judged(json.dumps(line["grader"]), answer["content"], calls)
    if score != 1:
        raise AssertionError(f"{line['id']}: the grader gives the reference answer {score} ({detail})")


@lru_cache(maxsize=4096)
def _judged(grader: str, content: str, calls: tuple[tuple[str, str], ...]) -> tuple[float, str]:
    made = tuple(ToolCall(index, name, arguments) for index, (name, arguments) in enumerate(calls))
    verdict = grade(json.loads(grader), ParsedMessage("", content, made, ()))
    return verdict.score, verdict.detail
