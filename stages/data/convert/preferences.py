"""Formats of preferences: from a row to lines of pair jsonl (docs/dpo.md)."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, product
from typing import Any

from stages.data.convert.rows import LeftOut, field, objects, text
from stages.data.convert.tool_tables import TASKMASTER_MOVIE_TOOLS, TASKMASTER_ORDER_TOOLS
from stages.data.convert.turns import assistant, result, with_id

Row = Mapping[str, Any]
Line = dict[str, Any]
PlacedRow = tuple[dict[str, Any], str]

_TOOLS = {"coffee": TASKMASTER_ORDER_TOOLS, "movies": TASKMASTER_MOVIE_TOOLS}
_ROLES = {"user": "user", "agent": "assistant", "assistant": "assistant", "system": "system"}


def preference(row: Row) -> list[Line]:
    """A prompt of messages and two answers as texts (LLaMA-Factory's dpo_en_demo, HH): prompt, chosen, rejected."""
    chosen, rejected = (field(row, side, str).strip() for side in ("chosen", "rejected"))
    if not (chosen and rejected):
        raise LeftOut("an answer is empty")
    if chosen.split() == rejected.split():
        raise LeftOut("both answers are the same")
    return [with_id(row) | {"prompt": _messages(row, "prompt"), "chosen": chosen, "rejected": rejected}]


def helpsteer3(row: Row) -> list[Line]:
    """HelpSteer3: context, response1, response2, overall_preference from -3 (the first is much better) to 3."""
    preferred = field(row, "overall_preference", int)
    first, second = text(row, "response1"), text(row, "response2")
    if not -3 <= preferred <= 3:
        raise ValueError(f"overall_preference: is {preferred}, not one of -3 to 3")
    if not preferred:
        raise LeftOut("neither answer is preferred")
    if first.split() == second.split():
        raise LeftOut("both answers are the same")
    chosen, rejected = (first, second) if preferred < 0 else (second, first)
    about = {key: row[key] for key in ("domain", "language") if key in row}
    return [
        with_id(row)
        | {"prompt": _messages(row, "context"), "chosen": chosen, "rejected": rejected}
        | {"strength": float(abs(preferred))}
        | ({"metadata": about} if about else {})
    ]


def by_context(rows: Iterable[PlacedRow]) -> Iterator[PlacedRow]:
    """Taskmaster's graded turns, those of one context as one row: domain, context, and lists of generation and reward."""
    together: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    for row, place in rows:
        key = json.dumps([row.get("domain"), row.get("context")], sort_keys=True)
        group = together.setdefault(
            key, {**row, "generation": [], "reward": [], "id": str(row.get("id", place.rpartition(" ")[2]))}
        )
        places.setdefault(key, place)
        group["generation"].append(row.get("generation"))
        group["reward"].append(row.get("reward"))
    for key, group in together.items():
        yield group, places[key]


def taskmaster_rewards(row: Row) -> list[Line]:
    """A context of Taskmaster-3 or -4 with graded turns (`by_context`): each good one against each bad one.

    Tools are described in `tool_tables`: the source does not. An empty text and a call without a name are no turns.
    """
    domain = text(row, "domain")
    if domain not in _TOOLS:
        raise ValueError(f"domain: is {domain!r}, none of {', '.join(_TOOLS)}")
    prompt = _context(objects(row, "context"))
    if not prompt:
        raise LeftOut("nothing stands before the turn")
    sides: dict[bool, list[Line]] = defaultdict(list)
    for generation, reward in zip(objects(row, "generation"), field(row, "reward", list), strict=True):
        if reward not in (0, 1):
            raise ValueError(f"reward: is {reward!r}, neither 0 nor 1")
        turn = _turn(generation, "generation")
        if turn is not None and turn not in sides[bool(reward)]:
            sides[bool(reward)].append(turn)
    pairs = [(good, bad) for good, bad in product(sides[True], sides[False]) if good != bad]
    if not pairs:
        raise LeftOut("its context has no good and bad turn")
    return [
        {
            "id": f"{field(row, 'id', str)}-{number}",
            "prompt": prompt,
            "chosen": [good],
            "rejected": [bad],
            "tools": _TOOLS[domain],
            "metadata": {"domain": domain},
        }
        for number, (good, bad) in enumerate(pairs)
    ]


def _messages(row: Row, key: str) -> list[Line]:
    messages: list[Line] = []
    for index, message in enumerate(objects(row, key)):
        role = text(message, "role")
        if role not in _ROLES:
            raise ValueError(f"{key}[{index}].role: is {role!r}, none of {', '.join(_ROLES)}")
        messages.append({"role": _ROLES[role], "content": field(message, "content", str)})
    return messages


def _context(turns: Sequence[Row]) -> list[Line]:
    """The turns before, as messages. LeftOut where calls and their results do not belong together."""
    messages: list[Line] = []
    called: list[str] = []
    for is_result, group in groupby(enumerate(turns), key=lambda item: "response" in item[1]):
        for index, turn in group:
            where = f"context[{index}]"
            if is_result:
                responses = field(turn, "response", dict)
                if list(responses) != called:
                    raise LeftOut("a result in its context has no call")
                messages += [result(response) for response in responses.values()]
                called = []
                continue
            if called:
                raise LeftOut("a call in its context has no result")
            message = _turn(turn, where)
            if message is None:
                raise LeftOut("a turn in its context is empty or a call without a name")
            messages.append(message)
            called = [call["function"]["name"] for call in message.get("tool_calls", [])]
    if called:
        raise LeftOut("a call in its context has no result")
    return messages


def _turn(turn: Row, where: str) -> Line | None:
    """What user or agent said, or the agent's calls; None if that is empty, or a call without a name."""
    if "api" not in turn:
        role = text(turn, "role")
        if role not in _ROLES:
            raise ValueError(f"{where}.role: is {role!r}, none of {', '.join(_ROLES)}")
        said = field(turn, "text", str).strip()
        return {"role": _ROLES[role], "content": said} if said else None
    calls = []
    for name, arguments in field(turn, "api", dict).items():
        if not name.strip():
            return None
        if not isinstance(arguments, dict):
            raise ValueError(f"{where}.api.{name}: its arguments are no object")
        calls.append({"name": name, "arguments": arguments})
    if not calls:
        raise ValueError(f"{where}.api: is empty")
    return assistant("", "", calls)
