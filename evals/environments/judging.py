"""Judging by outcome: an episode's calls and the wanted ones are run on fresh tables each, and the tables compared."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evals.environments.tables import Tables
from evals.environments.tools import Refusal, Tool, ToolSession, shown
from evals.graders.grade import Grade
from evals.graders.tool_calls import Call
from model.chat.events import ParsedMessage

Named = tuple[str, Any]
"""A call: its name, and its arguments as they came out of JSON (None: they were none)."""


def wanted_tables(tools: Mapping[str, Tool], fresh: Tables, calls: Sequence[Call]) -> Tables:
    """The tables after the wanted calls. ValueError for one that is no tool, changes nothing by its nature, or fails."""
    session = ToolSession(tools, fresh)
    for index, call in enumerate(calls):
        if call.name in tools and not tools[call.name].changes:
            raise ValueError(f"calls.{index}: {call.name} changes nothing")
        try:
            session.attempt(call.name, call.arguments)
        except Refusal as refusal:
            raise ValueError(f"calls.{index}: {shown(call.name)} fails: {refusal}") from None
    return session.tables


def verdict(
    tools: Mapping[str, Tool], fresh: Tables, wanted: Tables, calls: Sequence[Call], response: ParsedMessage
) -> Grade:
    """score: 1 if the answer is well-formed and its calls leave the tables as wanted. Calls that fail change nothing.

    parts, each 0 or 1: `format` (well-formed, and it says or calls something), `state` (the tables are as wanted),
    `no_side_effects` (0 where they are not, and not as they were either), `exact` (the changing calls are the wanted ones,
    in any order and case).
    """
    made = [(call.name, _arguments(call.arguments)) for call in response.tool_calls]
    session = ToolSession(tools, fresh)
    for name, arguments in made:
        session.call(name, arguments)
    format_ = response.well_formed and bool(made or response.content)
    state = session.tables.same(wanted)
    untouched = session.tables.same(fresh)
    changing = [(name, arguments) for name, arguments in made if name in tools and tools[name].changes]
    exact = _keys(changing) == _keys((call.name, call.arguments) for call in calls)
    if not response.well_formed:
        detail = f"malformed: {response.problems[0].defect.value}"
    elif not format_:
        detail = "no answer"
    elif state:
        detail = "the state is as wanted"
    else:
        detail = "nothing was changed" if untouched else "another state than the wanted one"
    return Grade(
        score=float(format_ and state),
        parts={
            "format": float(format_),
            "state": float(state),
            "no_side_effects": float(state or untouched),
            "exact": float(exact),
        },
        detail=detail,
    )


def _arguments(text: str) -> Any:
    try:
        arguments = json.loads(text)
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return None


def _keys(calls: Iterable[Named]) -> list[tuple[str, str]]:
    """The calls in the form and order in which they are compared; arguments that are not all texts fit none."""
    return sorted((name, _key(arguments)) for name, arguments in calls)


def _key(arguments: Any) -> str:
    if not isinstance(arguments, dict) or not all(isinstance(value, str) for value in arguments.values()):
        return ""
    return json.dumps(arguments, sort_keys=True).lower()
