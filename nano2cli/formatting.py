"""How a named figure is shown to people: the name says the unit. Used by tables, plans and progress alike."""

import math

from stages.common.sizes import format_bytes, format_duration


def format_figure(name: str, value: object) -> str:
    """`peak_bytes` in GiB, `mfu` and `..._share` in percent, `seconds` as a span of time, other numbers to
    four digits."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _format_number(name, value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={format_figure(str(key), item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(format_figure(name, item) for item in value)
    return str(value)


def format_label(name: str) -> str:
    """`tok_per_s` is `tok/s`, `peak_bytes` is `peak`, `mfu` is `MFU`, `bits_per_byte` is `bits per byte`."""
    if name == "mfu":
        return "MFU"
    if name.endswith("_per_s"):
        return name.removesuffix("_per_s").replace("_", " ") + "/s"
    return name.removesuffix("_bytes").replace("_", " ")


def _format_number(name: str, value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if name == "bytes" or name.endswith("_bytes"):
        return format_bytes(value)
    if name == "mfu" or name.endswith("_share"):
        return f"{value:.1%}"
    if name == "seconds" or name.endswith("_seconds"):
        return format_duration(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
