"""WorkBench's tables, read once a process; a session shares their rows until it writes (docs/workbench.md)."""

import csv
from functools import cache
from pathlib import Path

from evals.environments.tables import Row, Shape, Tables
from model.errors import ArtifactError

DATA = Path(__file__).parent / "data"
NOW = "2023-11-30 00:00:00"
"""What the clock says in every session."""

SHAPES = {
    "calendar": Shape(("event_id", "event_name", "participant_email", "event_start", "duration")),
    "emails": Shape(("email_id", "inbox/outbox", "sender/recipient", "subject", "sent_datetime", "body")),
    "plots": Shape(("file_path",)),
    "tasks": Shape(
        ("task_id", "task_name", "assigned_to_email", "list_name", "due_date", "board"),
        frozenset({"list_name", "board"}),
    ),
    "customers": Shape(
        (
            *("customer_id", "assigned_to_email", "customer_name", "customer_email", "customer_phone"),
            *("last_contact_date", "product_interest", "status", "follow_up_by", "notes"),
        ),
        frozenset({"status"}),
    ),
}
"""The tables that tools change, and that are compared."""

VISIT = Shape(
    (
        *("date_of_visit", "visitor_id", "page_views", "session_duration_seconds"),
        *("traffic_source", "user_engaged"),
    )
)


@cache
def fresh_tables() -> Tables:
    """The tables at the start of every episode; not to be written to."""
    files = {
        "calendar": "calendar_events",
        "emails": "emails",
        "tasks": "project_tasks",
        "customers": "customer_relationship_manager_data",
    }
    return Tables(SHAPES, {name: _read(file, SHAPES[name]) for name, file in files.items()})


@cache
def visits() -> tuple[Row, ...]:
    """The visits to the web site, which no tool changes."""
    return _read("analytics_data", VISIT)


@cache
def directory() -> tuple[str, ...]:
    """The addresses of the colleagues."""
    return tuple(row[0] for row in _read("company_directory", Shape(("email_address",))))


def _read(name: str, shape: Shape) -> tuple[Row, ...]:
    path = DATA / f"{name}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise _broken(path, str(error)) from error
    if tuple(header) != shape.columns or any(len(row) != len(header) for row in rows):
        raise _broken(path, "it has other columns than WorkBench's")
    return tuple(map(tuple, rows))


def _broken(path: Path, what: str) -> ArtifactError:
    return ArtifactError(f"a table cannot be read: {what}", where=str(path), remedy="install nano2 again")
