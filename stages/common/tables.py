"""Rows as a table for the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Columns are the keys of the first row; a column that is empty in all of them is left out."""
    names = [name for name in rows[0] if any(row.get(name) is not None for row in rows)]
    return lay_out(rows, names, title=title, label=lambda name: name.replace("_", " "), shown=_shown)


def lay_out(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    label: Callable[[str], str],
    shown: Callable[[str, Any], str],
    title: str | None = None,
) -> Table:
    """The columns `names` of rows, numbers to the right. `label` says a column's heading, `shown` a cell's text."""
    made = Table(title=title, title_justify="left", box=SIMPLE)
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        made.add_column(label(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(shown(name, row.get(name))) for name in names))
    return made


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "none" if name == "budget" else "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
