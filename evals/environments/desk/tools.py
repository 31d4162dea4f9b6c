"""The desk: four small tables and eight tools with short names, for models of a few million parameters.

events     e1: name, day              "e1 lunch Mon"
messages   m1: from or to, person, text   "m1 from Ana rent"
tasks      t1: name, person, status   "t1 paint Ben open"
customers  c1: name, person, status   "c1 Acme Dan lead"
"""

from collections.abc import Mapping, Sequence

from evals.environments.tables import Row, Shape, Tables, next_number
from evals.environments.tools import Argument, Refusal, Tool, ToolSession

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri")
PEOPLE = ("Ana", "Ben", "Cara", "Dan", "Ella", "Finn", "Gina", "Hugo", "Ida", "Jack")
TASK_STATUSES = ("open", "done")
CUSTOMER_STATUSES = ("lead", "won", "lost")
WAYS = ("from", "to")

SHAPES = {
    "events": Shape(("id", "name", "day"), handles=True),
    "messages": Shape(("id", "way", "person", "text"), handles=True),
    "tasks": Shape(("id", "name", "person", "status"), frozenset({"status"}), handles=True),
    "customers": Shape(("id", "name", "person", "status"), frozenset({"status"}), handles=True),
}

CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "events": {"day": DAYS},
    "messages": {"way": WAYS, "person": PEOPLE},
    "tasks": {"person": PEOPLE, "status": TASK_STATUSES},
    "customers": {"person": PEOPLE, "status": CUSTOMER_STATUSES},
}
"""The values that a column may have; any text in the others."""

FOUND = 3
"""How many rows `find` shows at most."""

NOTHING = "nothing"
DONE = "ok"


def find(tables: Tables, text: str) -> str:
    """Rows of any table that contain the text, in any case; a line each."""
    rows = [row for name in SHAPES for row in tables.rows(name) if text.lower() in " ".join(row[1:]).lower()]
    return "; ".join(" ".join(row) for row in rows[:FOUND]) or NOTHING


def plan(tables: Tables, name: str, day: str) -> str:
    return _add(tables, "events", name, day)


def move(tables: Tables, id: str, day: str) -> str:
    return _set(tables, id, "day", day)


def task(tables: Tables, name: str, person: str) -> str:
    return _add(tables, "tasks", name, person, "open")


def assign(tables: Tables, id: str, person: str) -> str:
    if _table(tables, id) == "messages":
        raise Refusal("a message has no owner")
    return _set(tables, id, "person", person)


def mark(tables: Tables, id: str, status: str) -> str:
    return _set(tables, id, "status", status)


def send(tables: Tables, person: str, text: str) -> str:
    return _add(tables, "messages", "to", person, text)


def drop(tables: Tables, id: str) -> str:
    tables.delete(_table(tables, id), id)
    return DONE


_ANY = Argument()
_DAY = Argument(choices=DAYS)
_PERSON = Argument(choices=PEOPLE)

TOOLS: dict[str, Tool] = {
    "find": Tool({"text": _ANY}, changes=False, run=find),
    "plan": Tool({"name": _ANY, "day": _DAY}, changes=True, run=plan),
    "move": Tool({"id": _ANY, "day": _DAY}, changes=True, run=move),
    "task": Tool({"name": _ANY, "person": _PERSON}, changes=True, run=task),
    "assign": Tool({"id": _ANY, "person": _PERSON}, changes=True, run=assign),
    "mark": Tool({"id": _ANY, "status": _ANY}, changes=True, run=mark),
    "send": Tool({"person": _PERSON, "text": _ANY}, changes=True, run=send),
    "drop": Tool({"id": _ANY}, changes=True, run=drop),
}


def signatures(names: Sequence[str]) -> str:
    """Tools as the model is told of them: `find(text), move(id, day)`."""
    return ", ".join(f"{name}({', '.join(TOOLS[name].arguments)})" for name in names)


def new_tables(state: Mapping[str, Sequence[Sequence[str]]]) -> Tables:
    """The tables of a state; one that is left out is empty."""
    return Tables(SHAPES, {name: [tuple(row) for row in rows] for name, rows in state.items()})


def new_session(tables: Tables) -> ToolSession:
    return ToolSession(TOOLS, tables)


def _table(tables: Tables, id: str) -> str:
    """The table that has the row with that id."""
    for name in SHAPES:
        if tables.find(name, id):
            return name
    raise Refusal("no such id")


def _add(tables: Tables, name: str, *values: str) -> str:
    number = next_number([row[0] for other in SHAPES for row in tables.rows(other)])
    row: Row = (str(number), *values)
    tables.append(name, row)
    return row[0]


def _set(tables: Tables, id: str, column: str, value: str) -> str:
    name = _table(tables, id)
    if column not in SHAPES[name].columns:
        raise Refusal(f"{id} has no {column}")
    choices = CHOICES[name].get(column, ())
    if value not in choices:
        raise Refusal(f"{column} must be one of {', '.join(choices)}")
    tables.update(name, id, column, value)
    return DONE
