"""Grades the calls of an episode at the desk by the state that they leave.

{"name": "desk", "state": {"events": [["4", "lunch", "Mon"]]}, "calls": [{"name": "move", "arguments": {...}}]}
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import PrivateAttr, model_validator

from evals.environments.desk.tools import CHOICES, SHAPES, TOOLS, new_session, new_tables
from evals.environments.judging import verdict, wanted_tables
from evals.environments.tables import Tables
from evals.environments.tools import ToolSession, shown
from evals.graders.grade import Grade
from evals.graders.spec import GraderSpec
from evals.graders.tool_calls import Call
from model.chat.events import ParsedMessage


class Spec(GraderSpec):
    """state: rows of each table, in order; one that is left out is empty. calls: what a right episode changes; an empty
    list: nothing may change."""

    name: Literal["desk"]
    state: dict[str, list[list[str]]]
    calls: list[Call]
    _fresh: Tables = PrivateAttr()
    _wanted: Tables = PrivateAttr()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_state(self.state)
        self._fresh = new_tables(self.state)
        self._wanted = wanted_tables(TOOLS, self._fresh, self.calls)
        return self


def open_session(spec: Spec) -> ToolSession:
    """A desk with the state of a line."""
    return new_session(spec._fresh)


def judge(spec: Spec, response: ParsedMessage) -> Grade:
    """score and parts as of `evals.environments.judging.verdict`."""
    return verdict(TOOLS, spec._fresh, spec._wanted, spec.calls, response)


def _check_state(state: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """ValueError for a row that its table cannot have."""
    for name, rows in state.items():
        if name not in SHAPES:
            raise ValueError(f"state: there is no table {shown(name)}, only {', '.join(SHAPES)}")
        columns = SHAPES[name].columns
        for index, row in enumerate(rows):
            where = f"state.{name}.{index}"
            if len(row) != len(columns):
                raise ValueError(f"{where}: {len(row)} values, where the columns are {', '.join(columns)}")
            if not row[0].isprintable() or row[0].split() != [row[0]]:
                raise ValueError(f"{where}: the id {shown(row[0])} is not one word, such as 4")
            for column, value in zip(columns, row, strict=True):
                choices = CHOICES[name].get(column)
                if choices and value not in choices:
                    raise ValueError(f"{where}: {column} is {shown(value)}, not one of {', '.join(choices)}")
    ids = [row[0] for rows in state.values() for row in rows]
    if twice := next((key for key in ids if ids.count(key) > 1), None):
        raise ValueError(f"state: two rows have the id {shown(twice)}")
