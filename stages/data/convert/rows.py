"""Fields of a row of a foreign format, each checked for being there and for its kind."""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_NAMES = {str: "text", list: "list", dict: "object", int: "whole number", float: "number"}


class LeftOut(Exception):
    """The row is sound and yet nothing to learn from; the message says why and is counted."""


def field(row: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """`row[key]`. ValueError if it is missing or of another kind; a whole number is a number, too."""
    if key not in row:
        raise ValueError(f"{key}: is missing; the row has {', '.join(map(str, row)) or 'nothing'}")
    value = row[key]
    wanted: Any = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise ValueError(f"{key}: is {_kind(value)} where {_NAMES[kind]} is expected")
    return value


def text(row: Mapping[str, Any], key: str) -> str:
    """A text that is not empty, without white space at its ends."""
    value = field(row, key, str).strip()
    if not value:
        raise ValueError(f"{key}: is empty")
    return value


def texts(row: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts, at least one."""
    values: list[Any] = field(row, key, list)
    if not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key}: is no list of texts")
    return values


def objects(row: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of objects."""
    values: list[Any] = field(row, key, list)
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise ValueError(f"{key}[{index}]: is {_kind(value)} where object is expected")
    return values


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
