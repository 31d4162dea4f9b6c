"""Judge an answer by its grader's specification.

    grade({"name": "math", "answer": "3/4"}, response)

Nothing here or below needs torch, and what is heavy (sympy, NLTK) is loaded by the first answer that needs it. A grade
is a function of the specification and the answer alone: no clock but the time limits, no randomness, no state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from model.chat.events import ParsedMessage
from model.chat.parsers import parse
from model.errors import ArtifactError

GRADERS = {
    "math": "evals.graders.math",
    "instructions": "evals.graders.instructions.grader",
    "tool_calls": "evals.graders.tool_calls",
    "code": "evals.graders.code",
    "workbench": "evals.environments.workbench.grader",
    "desk": "evals.environments.desk.grader",
}
"""The module of each grader. It has `Spec`, a pydantic model, and `judge(spec, response)`; an environment has
`open_session(spec)`, too (evals/environments/session.py)."""


@dataclass(frozen=True)
class Grade:
    """score: 0 (wrong) to 1 (right). parts: what it is made of, such as form and correctness, each 0 to 1. detail: why,
    in a few words."""

    score: float
    parts: dict[str, float] = field(default_factory=dict)
    detail: str = ""


def grade(spec: Mapping[str, Any], response: ParsedMessage) -> Grade:
    """Judge an answer. Its thinking is not looked at. ArtifactError as of `validate_spec`."""
    grader, settings = read_spec(spec)
    verdict: Grade = grader.judge(settings, response)
    return verdict


def grade_text(spec: Mapping[str, Any], text: str, *, thinking: bool = False) -> Grade:
    """Judge an answer as it was generated. `thinking`: the prompt ended inside of thinking, as for the parser."""
    return grade(spec, parse(text, thinking=thinking))


def validate_spec(spec: Mapping[str, Any]) -> None:
    """ArtifactError naming what is wrong, unless `spec` names a grader and has just the keys and values it takes."""
    read_spec(spec)


def read_spec(spec: Mapping[str, Any]) -> tuple[Any, Any]:
    """The grader's module, and its `Spec` of the settings. ArtifactError as of `validate_spec`."""
    if not isinstance(spec, Mapping):
        raise ArtifactError("it is no JSON object", where="grader", remedy='write {"name": ..., ...}')
    name = spec.get("name")
    if not isinstance(name, str) or name not in GRADERS:
        raise ArtifactError(
            f"unknown grader {name!r}" if "name" in spec else "it has no name",
            where="grader",
            remedy=f"name one of {', '.join(GRADERS)}",
        )
    grader = import_module(GRADERS[name])
    return grader, grader.Spec.read(spec)
