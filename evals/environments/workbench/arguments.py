"""What the functions of several domains do with their arguments."""

import re

from evals.environments.tables import Row, Tables, next_number
from evals.environments.tools import Refusal, shown
from evals.environments.workbench.state import SHAPES

LIMIT = 5
"""How many rows most searches show."""

_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2})(:\d{2})?)?", re.ASCII)


def time_of(bound: str | None, name: str) -> str | None:
    """A bound as YYYY-MM-DD HH:MM:SS, which compares as text; a day alone is its first moment. None where none is given."""
    if not bound:
        return None
    match = _TIME.fullmatch(bound.strip())
    if match is None:
        raise Refusal(f"{name} must be YYYY-MM-DD or YYYY-MM-DD HH:MM:SS, not {shown(bound)}.")
    day, minutes, seconds = match.groups()
    return f"{day} {minutes or '00:00'}{seconds or ':00'}"


def day_of(bound: str | None, name: str) -> str | None:
    """The day of a bound."""
    time = time_of(bound, name)
    return time and time[:10]


def between(value: str, low: str | None, high: str | None) -> bool:
    """Whether a value lies in bounds that are part of what they bound. One that is missing lies in none."""
    if not value and (low or high):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def cell(tables: Tables, table: str, key: str, column: str) -> dict[str, str]:
    """One column of one row as an object."""
    return {column: row_of(tables, table, key)[tables.column(table, column)]}


def row_of(tables: Tables, table: str, key: str) -> Row:
    row = tables.find(table, key)
    if row is None:
        raise Refusal(f"There is no {SHAPES[table].columns[0]} {shown(key)}.")
    return row


def add(tables: Tables, table: str, **values: str) -> str:
    """Append a row under the next id, which is returned; addresses in lower case, columns not given empty."""
    first, *others = SHAPES[table].columns
    key = f"{next_number([row[0] for row in tables.rows(table)]):08d}"
    record = {first: key, **{column: values.get(column, "") for column in others}}
    tables.append(table, tuple(_stored(column, value) for column, value in record.items()))
    return key


def overwrite(tables: Tables, table: str, key: str, column: str, value: str) -> str:
    row_of(tables, table, key)
    tables.update(table, key, column, _stored(column, value))
    return f"{column} is updated."


def remove(tables: Tables, table: str, key: str) -> str:
    row_of(tables, table, key)
    tables.delete(table, key)
    return f"{SHAPES[table].columns[0]} {key} is deleted."


def contains(row: Row, table: str, given: dict[str, str | None]) -> bool:
    """Whether each column that is given contains its text, in any case."""
    record = SHAPES[table].record(row)
    return all(text.lower() in record[column].lower() for column, text in given.items() if text)


def records(table: str, rows: list[Row]) -> list[dict[str, str]] | str:
    """Rows as objects, or the message that there are none."""
    return [SHAPES[table].record(row) for row in rows] or "Nothing was found."


def _stored(column: str, value: str) -> str:
    """The value as it is written: addresses are in lower case."""
    return value.lower() if column.endswith("_email") or column == "sender/recipient" else value
