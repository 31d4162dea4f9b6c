"""The customer list's tools."""

from typing import Any

from evals.environments.tables import Tables
from evals.environments.tools import Refusal
from evals.environments.workbench.arguments import (
    LIMIT,
    add,
    between,
    contains,
    day_of,
    overwrite,
    records,
    remove,
    row_of,
)
from evals.environments.workbench.state import SHAPES

CHOICES = {
    "status": ("Qualified", "Won", "Lost", "Lead", "Proposal"),
    "product_interest": ("Software", "Hardware", "Services", "Consulting", "Training"),
}
_DATES = ("last_contact_date", "follow_up_by")


def search_customers(tables: Tables, **given: str) -> Any:
    if not any(given.values()):
        raise Refusal("Give at least one argument.")
    bounds = {
        date: tuple(day_of(given.pop(f"{date}_{end}", None), f"{date}_{end}") for end in ("min", "max"))
        for date in _DATES
    }
    found = []
    for row in tables.rows("customers"):
        record = SHAPES["customers"].record(row)
        if contains(row, "customers", {**given}) and all(
            between(record[date], low, high) for date, (low, high) in bounds.items()
        ):
            found.append(row)
    return records("customers", found[:LIMIT])


def add_customer(tables: Tables, **given: str) -> Any:
    return add(tables, "customers", **given)


def update_customer(tables: Tables, customer_id: str, field: str, new_value: str) -> Any:
    row_of(tables, "customers", customer_id)
    choices = CHOICES.get(field)
    if choices and new_value not in choices:
        raise Refusal(f"{field} must be one of {', '.join(choices)}.")
    return overwrite(tables, "customers", customer_id, field, new_value)


def delete_customer(tables: Tables, customer_id: str) -> Any:
    return remove(tables, "customers", customer_id)
