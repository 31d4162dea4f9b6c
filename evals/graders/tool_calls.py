"""Grades an answer by the functions that it calls: an exact list of calls, or accepted values in BFCL's form.

The Berkeley function-calling leaderboard (Patil et al. 2025) writes {"function": {"argument": [accepted, ...]}}; an
accepted "" means that the argument may be left out. An object in an accepted value is written in the same way, key by
key. Numbers keep their types: an accepted 5 takes 5 and not 5.0, an accepted 5.0 takes both. Of accepted texts, case,
spaces, the kind of quotes and `,./-_*^` don't count.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evals.graders.grade import Grade
from evals.graders.spec import GraderSpec
from model.chat.events import ParsedMessage
from model.chat.tool_calls import ToolCall

Accepted = Annotated[list[Any], Field(min_length=1)]


class Call(BaseModel):
    """One call that is wanted as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(min_length=1)
    arguments: dict[str, Any]

    def takes(self, arguments: dict[str, Any]) -> bool:
        return _equal(self.arguments, arguments)


class AcceptedCall(BaseModel):
    """One call with a choice of values for each argument."""

    name: str
    arguments: dict[str, Accepted]

    def takes(self, arguments: dict[str, Any]) -> bool:
        return _takes_object(self.arguments, arguments)


class Spec(GraderSpec):
    """calls: exactly these; or accepted: one {function: {argument: [values]}} for each call. An empty list: no call is
    right, and the answer is given in words. ordered: whether the order counts (if not said: of `calls`, not of
    `accepted`)."""

    name: Literal["tool_calls"]
    calls: list[Call] | None = None
    accepted: list[dict[str, dict[str, Accepted]]] | None = None
    ordered: bool | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.calls is None) == (self.accepted is None):
            raise ValueError("give either calls or accepted")
        if any(len(choice) != 1 for choice in self.accepted or ()):
            raise ValueError("accepted: each entry is one function, {function: {argument: [values]}}")
        return self

    @property
    def wanted(self) -> Sequence[Call | AcceptedCall]:
        if self.calls is not None:
            return self.calls
        return [
            AcceptedCall(name=name, arguments=arguments)
            for choice in self.accepted or ()
            for name, arguments in choice.items()
        ]


def judge(spec: Spec, response: ParsedMessage) -> Grade:
    """score: 1 if the answer is well-formed and its calls are the wanted ones, no more and no less. parts: `format`
    (the answer is well-formed and not empty), `name` and `arguments` (the share of calls with the right name, and right
    altogether, of those wanted or made, whichever are more)."""
    wanted, made = spec.wanted, [(call.name, _arguments(call)) for call in response.tool_calls]
    spoke = bool(response.content or made)
    well_formed = response.well_formed and spoke and all(arguments is not None for _, arguments in made)

    def fits(want: int, call: int) -> bool:
        name, arguments = made[call]
        return name == wanted[want].name and arguments is not None and wanted[want].takes(arguments)

    ordered = spec.calls is not None if spec.ordered is None else spec.ordered
    if ordered:
        pairs = range(min(len(wanted), len(made)))
        named = sum(wanted[i].name == made[i][0] for i in pairs)
        right = sum(fits(i, i) for i in pairs)
    else:
        named = (Counter(want.name for want in wanted) & Counter(name for name, _ in made)).total()
        right = _matching(len(wanted), len(made), fits)
    total = max(len(wanted), len(made))
    correct = right == total
    if well_formed and correct:
        detail = "as wanted" if wanted else "no call, as wanted"
    elif not response.well_formed:
        detail = f"malformed: {response.problems[0].defect.value}"
    elif not spoke:
        detail = "no answer"
    else:
        detail = f"{right} of {len(wanted)} wanted calls are right, {len(made)} were made"
    return Grade(
        score=float(well_formed and correct),
        parts={
            "format": float(well_formed),
            "name": named / total if total else 1.0,
            "arguments": right / total if total else 1.0,
        },
        detail=detail,
    )


def _arguments(call: ToolCall) -> dict[str, Any] | None:
    """The arguments of a call; None: they are no JSON object."""
    try:
        arguments = json.loads(call.arguments)
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    return arguments if isinstance(arguments, dict) else None


def _matching(n_wanted: int, n_made: int, fits: Callable[[int, int], bool]) -> int:
    """The most wanted calls that can be paired with one call each."""
    owner: dict[int, int] = {}

    def place(want: int, tried: set[int]) -> bool:
        for call in range(n_made):
            if call not in tried and fits(want, call):
                tried.add(call)
                if call not in owner or place(owner[call], tried):
                    owner[call] = want
                    return True
        return False

    return sum(place(want, set()) for want in range(n_wanted))


def _equal(wanted: Any, value: Any) -> bool:
    """Equality of JSON values with the types of numbers and truth values."""
    if isinstance(wanted, dict):
        return (
            isinstance(value, dict)
            and wanted.keys() == value.keys()
            and all(_equal(wanted[key], value[key]) for key in wanted)
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and len(wanted) == len(value) and all(map(_equal, wanted, value))
    return _same_kind(wanted, value) and bool(wanted == value)


def _takes(accepted: Any, value: Any) -> bool:
    """Whether one accepted value takes a value."""
    if isinstance(accepted, dict):
        return isinstance(value, dict) and _takes_object(accepted, value)
    if isinstance(accepted, list):
        return isinstance(value, list) and len(accepted) == len(value) and all(map(_takes, accepted, value))
    if isinstance(accepted, str) and isinstance(value, str):
        return _plain(accepted) == _plain(value)
    return _same_kind(accepted, value) and bool(accepted == value)


def _takes_object(accepted: dict[str, Any], value: dict[str, Any]) -> bool:
    options = {key: choice if isinstance(choice, list) else [choice] for key, choice in accepted.items()}
    return (
        value.keys() <= options.keys()
        and all(any(_takes(option, value[key]) for option in options[key]) for key in value)
        and all("" in options[key] for key in options.keys() - value.keys())
    )


def _same_kind(wanted: Any, value: Any) -> bool:
    return type(wanted) is type(value) or (type(wanted) is float and type(value) is int)


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')
