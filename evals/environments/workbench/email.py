"""The mailbox's tools."""

from typing import Any

from evals.environments.tables import Tables
from evals.environments.tools import Refusal, shown
from evals.environments.workbench.arguments import (
    LIMIT,
    add,
    between,
    cell,
    day_of,
    records,
    remove,
    row_of,
)
from evals.environments.workbench.state import NOW, SHAPES


def get_email_information_by_id(tables: Tables, email_id: str, field: str) -> Any:
    return cell(tables, "emails", email_id, field)


def search_emails(
    tables: Tables, query: str = "", date_min: str | None = None, date_max: str | None = None
) -> Any:
    low, high = day_of(date_min, "date_min"), day_of(date_max, "date_max")
    sent = tables.column("emails", "sent_datetime")
    places = [tables.column("emails", column) for column in ("subject", "body", "sender/recipient")]
    words = query.lower().split()
    found = []
    for row in tables.rows("emails"):
        text = "\n".join(row[place] for place in places).lower()
        if all(word in text for word in words) and between(row[sent][:10], low, high):
            found.append(row)
    found.sort(key=lambda row: row[sent], reverse=True)
    return records("emails", found[:LIMIT])


def send_email(tables: Tables, recipient: str, subject: str, body: str) -> Any:
    if "@" not in recipient or "." not in recipient:
        raise Refusal(f"{shown(recipient)} is no address.")
    outgoing = {"inbox/outbox": "outbox", "sender/recipient": recipient, "subject": subject, "body": body}
    add(tables, "emails", sent_datetime=NOW, **outgoing)
    return "The e-mail is sent."


def reply_email(tables: Tables, email_id: str, body: str) -> Any:
    original = SHAPES["emails"].record(row_of(tables, "emails", email_id))
    return send_email(tables, original["sender/recipient"], original["subject"], body)


def forward_email(tables: Tables, email_id: str, recipient: str) -> Any:
    original = SHAPES["emails"].record(row_of(tables, "emails", email_id))
    return send_email(tables, recipient, f"FW: {original['subject']}", original["body"])


def delete_email(tables: Tables, email_id: str) -> Any:
    return remove(tables, "emails", email_id)
