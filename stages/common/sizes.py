"""Counts and byte sizes as people write them: `8k`, `1.5M`, `20T`, `22.06GiB`.

`Size` and `ByteSize` are plain `int`s after validation, so that code downstream never sees a unit.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

LARGEST = 2**63 - 1

_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_BINARY_COUNT_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_BYTE_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BINARY_BYTE_UNITS = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}

_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([a-zA-Z]*)")


def parse_size(value: object) -> int:
    """A whole count from `8k`, `1.5M`, `2B` (powers of 1000), `8Ki`, `4Mi` (powers of 1024), `1e9` or a
    number.

    Raises ValueError for anything else, a count that does not come out whole included.
    """
    exact = _parse(value, _COUNT_UNITS | _BINARY_COUNT_UNITS, "a count such as 8000, 8k, 1.5M, 2B or 8Ki")
    if exact != exact.to_integral_value():
        raise ValueError(f"{value!r} is not a whole number")
    return int(exact)


def parse_byte_size(value: object) -> int:
    """Bytes from `22.06GiB` (powers of 1024), `500MB` (powers of 1000) or a plain number; parts of a byte
    are dropped.

    Raises ValueError for anything else.
    """
    return int(_parse(value, _BYTE_UNITS | _BINARY_BYTE_UNITS, "a byte size such as 500MB or 22.06GiB"))


def _parse(value: object, units: dict[str, int], expected: str) -> Decimal:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{value!r} is not {expected}")
    exact = Decimal(match[1].replace("_", "")) * factor
    if abs(exact) > LARGEST:
        raise ValueError(f"{value!r} is larger than {LARGEST}")
    return exact


def format_size(count: int) -> str:
    """The shortest exact spelling that `parse_size` reads back: 1500000 is `1.5M`, 8192 stays `8192`."""
    for unit, factor in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if abs(count) >= factor and (count * 100) % factor == 0:
            return f"{count / factor:.2f}".rstrip("0").rstrip(".") + unit
    return str(count)


def format_bytes(count: float) -> str:
    """Bytes for people, three digits or so: `22.1 GiB`, `640 KiB`, `12 B`."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= factor:
            scaled = count / factor
            return f"{scaled:.0f} {unit}" if abs(scaled) >= 100 else f"{scaled:.1f} {unit}"
    return f"{count:.0f} B"


def format_duration(seconds: float) -> str:
    """A span of time for people: `0.4 s`, `42 s`, `3m 20s`, `5h 02m`, `12d 04h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def _schema(examples: list[Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], "examples": examples})


Size = Annotated[int, BeforeValidator(parse_size), _schema(["8k", "1.5M", "20T", 4096])]
"""A count of tokens, steps, bytes of text...: see `parse_size`."""

ByteSize = Annotated[int, BeforeValidator(parse_byte_size), _schema(["22.06GiB", "500MB", 1048576])]
"""A number of bytes: see `parse_byte_size`."""
