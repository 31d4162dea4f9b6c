"""Grades the calls of an episode in WorkBench (Styles et al. 2024) by the state that they leave.

{"name": "workbench", "calls": [{"name": "calendar.delete_event", "arguments": {"event_id": "00000256"}}]}
"""

from typing import Literal, Self

from pydantic import PrivateAttr, model_validator

from evals.environments.judging import verdict, wanted_tables
from evals.environments.tables import Tables
from evals.environments.tools import ToolSession
from evals.environments.workbench.state import fresh_tables
from evals.environments.workbench.tools import tools
from evals.graders.grade import Grade
from evals.graders.spec import GraderSpec
from evals.graders.tool_calls import Call
from model.chat.events import ParsedMessage


class Spec(GraderSpec):
    """calls: the state-changing calls that a right episode makes; an empty list: nothing may change."""

    name: Literal["workbench"]
    calls: list[Call]
    _wanted: Tables = PrivateAttr()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self._wanted = wanted_tables(tools(), fresh_tables(), self.calls)
        return self


def open_session(spec: Spec) -> ToolSession:  # noqa: ARG001
    """The same office for every task."""
    return ToolSession(tools(), fresh_tables())


def judge(spec: Spec, response: ParsedMessage) -> Grade:
    """score and parts as of `evals.environments.judging.verdict`."""
    return verdict(tools(), fresh_tables(), spec._wanted, spec.calls, response)
