"""The state of an environment: named tables of rows of text, shared between sessions until one of them writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    """The columns of a table; the first one is the row's id. cased: those whose letter case counts in a comparison.
    handles: ids only serve to name rows, and are not compared."""

    columns: tuple[str, ...]
    cased: frozenset[str] = frozenset()
    handles: bool = False

    def key(self, row: Row) -> Row:
        """The row in the form in which rows are compared."""
        return tuple(
            value if column in self.cased else value.lower()
            for column, value in list(zip(self.columns, row, strict=True))[self.handles :]
        )

    def record(self, row: Row) -> dict[str, str]:
        """The row as an object."""
        return dict(zip(self.columns, row, strict=True))


class Tables:
    """Tables by name. A copy shares all rows; a write replaces the table that it changes."""

    def __init__(self, shapes: Mapping[str, Shape], rows: Mapping[str, Sequence[Row]]) -> None:
        self.shapes = shapes
        self._rows = {name: tuple(rows.get(name, ())) for name in shapes}

    def copy(self) -> "Tables":
        return Tables(self.shapes, self._rows)

    def rows(self, name: str) -> tuple[Row, ...]:
        return self._rows[name]

    def column(self, name: str, column: str) -> int:
        """Where a column stands in the rows of a table."""
        return self.shapes[name].columns.index(column)

    def find(self, name: str, key: str) -> Row | None:
        """The first row with that id."""
        return next((row for row in self._rows[name] if row[0] == key), None)

    def append(self, name: str, row: Row) -> None:
        self._rows[name] = (*self._rows[name], row)

    def update(self, name: str, key: str, column: str, value: str) -> None:
        """Overwrite a column of the rows with that id, which stay in their places."""
        at = self.column(name, column)
        self._rows[name] = tuple(
            (*row[:at], value, *row[at + 1 :]) if row[0] == key else row for row in self._rows[name]
        )

    def delete(self, name: str, key: str) -> None:
        self._rows[name] = tuple(row for row in self._rows[name] if row[0] != key)

    def same(self, other: "Tables") -> bool:
        """Whether all tables are equal, row for row and in order; case counts in few columns."""
        return all(self._same_table(name, other) for name in self._rows)

    def _same_table(self, name: str, other: "Tables") -> bool:
        ours, theirs, key = self._rows[name], other._rows[name], self.shapes[name].key
        if ours is theirs:
            return True
        return len(ours) == len(theirs) and all(
            our is their or key(our) == key(their) for our, their in zip(ours, theirs, strict=True)
        )


def next_number(ids: Sequence[str]) -> int:
    """One above the largest number among ids; whatever else stands among them doesn't count."""
    numbers = (text for text in ids if text.isascii() and text.isdecimal() and len(text) <= 18)
    return max(map(int, numbers), default=0) + 1
