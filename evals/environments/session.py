"""What an environment is: a grader that also has sessions, in which its tools can be called.

    session = open_session({"name": "desk", "state": {...}, "calls": [...]})
    session.call("find", {"text": "lunch"})

A grader module that is an environment has `open_session(spec)` besides `Spec` and `judge` (evals/graders/grade.py).
"""

from collections.abc import Mapping
from typing import Any, Protocol

from evals.graders.grade import read_spec


class Session(Protocol):
    """One episode's own copy of an environment. Nothing that a model says makes `call` raise."""

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The tool's answer as text. A call that fails says why and changes nothing."""


def open_session(grader: Mapping[str, Any]) -> Session | None:
    """A fresh session of a line's grader; None where it has no environment. ArtifactError as of `validate_spec`."""
    module, spec = read_spec(grader)
    opener = getattr(module, "open_session", None)
    session: Session | None = opener(spec) if opener else None
    return session
