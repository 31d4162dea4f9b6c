"""A process that grades answers for stages/common/rewards/grading.py: a JSON object a line comes in, and one goes out."""

import json
import os
import sys

from evals.graders.grade import grade
from model.chat.events import Defect, Malformed, ParsedMessage
from model.chat.tool_calls import ToolCall


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a grader prints is no answer
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        print(_answer(line), file=answers, flush=True)


def _answer(line: str) -> str:
    asked = json.loads(line)
    said = asked["response"]
    response = ParsedMessage(
        reasoning=said["reasoning"],
        content=said["content"],
        tool_calls=tuple(ToolCall(**call) for call in said["tool_calls"]),
        problems=tuple(
            Malformed(Defect(each["defect"]), each["detail"], each["raw"]) for each in said["problems"]
        ),
    )
    try:
        found = grade(asked["grader"], response)
        return json.dumps({"score": found.score, "parts": found.parts})
    except Exception as error:  # whatever a grader raises is told
        return json.dumps({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})


if __name__ == "__main__":
    main()
