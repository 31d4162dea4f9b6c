"""Nothing is written that its own grader would not accept; of demonstrations that are to fail, nothing that it would."""

import json
from functools import lru_cache
from typing import Any

from evals.chat_lines import parse_sample
from evals.environments.session import open_session
from evals.graders.grade import grade
from model.chat.events import ParsedMessage
from model.chat.tool_calls import ToolCall
from stages.data.synth.problem import FLAWED


def verify(line: dict[str, Any]) -> None:
    """Check a row: it is chat jsonl, and its grader gives the reference answer 1, of an environment the reference episode,
    whose tool results are the environment's; a flawed one less. AssertionError if not."""
    parse_sample(line, line["id"])
    messages = line["messages"] if "messages" in line else line["completion"]
    answer, session = messages[-1], open_session(line["grader"])
    turns = (
        [answer] if session is None else [message for message in messages if message["role"] == "assistant"]
    )
    calls = tuple(
        (call["function"]["name"], call["function"]["arguments"])
        for turn in turns
        for call in turn.get("tool_calls", ())
    )
    if session is not None:
        results = [session.call(name, json.loads(arguments)) for name, arguments in calls]
        if results != [message["content"] for message in messages if message["role"] == "tool"]:
            raise AssertionError(f"{line['id']}: the tools of its environment answer otherwise")
    score, detail = _judged(json.dumps(line["grader"]), answer["content"], calls)
    if (score == 1) is line["metadata"].get(FLAWED, False):
        raise AssertionError(f"{line['id']}: the grader gives the reference answer {score} ({detail})")


@lru_cache(maxsize=4096)
def _judged(grader: str, content: str, calls: tuple[tuple[str, str], ...]) -> tuple[float, str]:
    made = tuple(ToolCall(index, name, arguments) for index, (name, arguments) in enumerate(calls))
    verdict = grade(json.loads(grader), ParsedMessage("", content, made, ()))
    return verdict.score, verdict.detail
