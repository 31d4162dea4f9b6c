"""When are two runs the same run? When their settings agree, and their inputs by content rather than by
path."""

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from stages.common.config import StageConfig


def identity(
    resolved: Mapping[str, Any], config: type[StageConfig], *, to_continue: bool = False
) -> dict[str, JsonValue]:
    """The part of a resolved config (`StageConfig.resolved`) that decides the result.

    Cosmetic fields are left out, and an input is its content hash (and weight) wherever it lies. `to_continue`: of an
    interrupted run, which may go on in another arrangement.
    """
    free = config.cosmetic_fields()
    if to_continue:
        free |= config.arrangement_fields()
    return {name: _without_paths(value) for name, value in resolved.items() if name not in free}


def first_difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The first setting in which two identities differ, in words, or None where they agree."""
    for name in [*here, *(name for name in there if name not in here)]:
        if name not in there:
            return f"{name} is new here ({_show(here[name])})"
        if name not in here:
            return f"{name} was {_show(there[name])} there and is no setting here"
        if there[name] != here[name]:
            return f"{name} was {_show(there[name])} there and is {_show(here[name])} here"
    return None


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        is_input = "content_hash" in value
        return {key: _without_paths(item) for key, item in value.items() if not (is_input and key == "path")}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return value


def _show(value: Any) -> str:
    if isinstance(value, dict) and "content_hash" in value:
        return f"content {value['content_hash'].removeprefix('sha256:')[:12]}"
    if isinstance(value, list):
        return f"[{', '.join(map(_show, value))}]"
    return repr(value)
