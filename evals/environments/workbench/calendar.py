"""The calendar's tools."""

from typing import Any

from evals.environments.tables import Tables
from evals.environments.workbench.arguments import (
    LIMIT,
    add,
    between,
    cell,
    overwrite,
    records,
    remove,
    time_of,
)


def get_event_information_by_id(tables: Tables, event_id: str, field: str) -> Any:
    return cell(tables, "calendar", event_id, field)


def search_events(
    tables: Tables, query: str = "", time_min: str | None = None, time_max: str | None = None
) -> Any:
    low, high = time_of(time_min, "time_min"), time_of(time_max, "time_max")
    name, participant, start = (
        tables.column("calendar", column) for column in ("event_name", "participant_email", "event_start")
    )
    text = query.lower()
    found = [
        row
        for row in tables.rows("calendar")
        if (text in row[name].lower() or text in row[participant].lower()) and between(row[start], low, high)
    ]
    return records("calendar", found[:LIMIT])


def create_event(
    tables: Tables, event_name: str, participant_email: str, event_start: str, duration: str
) -> Any:
    return add(
        tables,
        "calendar",
        event_name=event_name,
        participant_email=participant_email,
        event_start=event_start,
        duration=duration,
    )


def update_event(tables: Tables, event_id: str, field: str, new_value: str) -> Any:
    return overwrite(tables, "calendar", event_id, field, new_value)


def delete_event(tables: Tables, event_id: str) -> Any:
    return remove(tables, "calendar", event_id)
