"""The task board's tools."""

from typing import Any

from evals.environments.tables import Tables
from evals.environments.tools import Refusal, shown
from evals.environments.workbench.arguments import add, cell, contains, overwrite, records, remove, row_of

CHOICES = {
    "list_name": ("Backlog", "In Progress", "In Review", "Completed"),
    "board": ("Back end", "Front end", "Design"),
}


def get_task_information_by_id(tables: Tables, task_id: str, field: str) -> Any:
    return cell(tables, "tasks", task_id, field)


def search_tasks(
    tables: Tables,
    task_name: str | None = None,
    assigned_to_email: str | None = None,
    list_name: str | None = None,
    due_date: str | None = None,
    board: str | None = None,
) -> Any:
    given = {
        "task_name": task_name,
        "assigned_to_email": assigned_to_email,
        "list_name": list_name,
        "due_date": due_date,
        "board": board,
    }
    if not any(given.values()):
        raise Refusal("Give at least one argument.")
    return records("tasks", [row for row in tables.rows("tasks") if contains(row, "tasks", given)])


def create_task(
    tables: Tables, task_name: str, assigned_to_email: str, list_name: str, due_date: str, board: str
) -> Any:
    _check_owner(tables, assigned_to_email)
    return add(
        tables,
        "tasks",
        task_name=task_name,
        assigned_to_email=assigned_to_email,
        list_name=list_name,
        due_date=due_date,
        board=board,
    )


def update_task(tables: Tables, task_id: str, field: str, new_value: str) -> Any:
    row_of(tables, "tasks", task_id)
    choices = CHOICES.get(field)
    if choices and new_value not in choices:
        raise Refusal(f"{field} must be one of {', '.join(choices)}.")
    if field == "assigned_to_email":
        _check_owner(tables, new_value)
    return overwrite(tables, "tasks", task_id, field, new_value)


def delete_task(tables: Tables, task_id: str) -> Any:
    return remove(tables, "tasks", task_id)


def _check_owner(tables: Tables, address: str) -> None:
    owner = tables.column("tasks", "assigned_to_email")
    if all(row[owner] != address.lower() for row in tables.rows("tasks")):
        raise Refusal(f"{shown(address)} owns no task, and cannot be assigned one.")
