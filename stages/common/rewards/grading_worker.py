"""A process that grades answers for stages/common/rewards/grading.py: a JSON object a line comes in, and one goes out."""

from typing import Any

from evals.graders.grade import grade
from evals.graders.line_process import serve
from model.chat.events import Defect, Malformed, ParsedMessage
from model.chat.tool_calls import ToolCall


def main() -> None:
    serve(_answer)


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
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
        return {"score": found.score, "parts": found.parts}
    except Exception as error:  # whatever a grader raises is told
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
