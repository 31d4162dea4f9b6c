"""Do two artifacts read and write text alike? The first thing in which their tokenizers or chat templates differ, in words.

What counts is what makes other tokens of a text or another text of a chat: the content of tokenizer.json, the special tokens
of tokenizer_config.json, and the chat template. Lengths, names and versions do not.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from model.errors import ArtifactError

_WITHOUT_EFFECT = ("truncation", "padding", "version")
_DECISIVE = (
    *("bos_token", "eos_token", "unk_token", "pad_token"),
    *("add_bos_token", "add_eos_token", "add_prefix_space"),
)
_PRESENT, _ABSENT = object(), object()


def tokenizer_difference(one: Path, other: Path) -> str | None:
    """One sentence with the place, both values and both directories; None where they agree or neither has a tokenizer.

    ArtifactError for a file that is not JSON.
    """
    for name, here, there in _differences(one, other):
        return f"{name} is {_shown(here)} in {one} and {_shown(there)} in {other}"
    return None


def _differences(one: Path, other: Path) -> Iterator[tuple[str, Any, Any]]:
    files = [path / "tokenizer.json" for path in (one, other)]
    yield from _unequal("tokenizer.json", *(_PRESENT if path.is_file() else _ABSENT for path in files))
    yield from _unequal("tokenizer.json", *map(_read, files))
    settings = [_read(path / "tokenizer_config.json") for path in (one, other)]
    for key in _DECISIVE:
        values = [each.get(key) for each in settings]
        yield from _unequal(f"tokenizer_config.json: {key}", *(_content(value) for value in values))
    templates = [
        _template(path, each).splitlines() for path, each in zip((one, other), settings, strict=True)
    ]
    for number, (here, there) in enumerate(zip_longest(*templates, fillvalue=_ABSENT), start=1):
        yield from _unequal(f"line {number} of the chat template", here, there)


def _unequal(place: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """The places in two JSON values at which they differ."""
    if one == other:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            yield from _unequal(f"{place}: {key}", one.get(key, _ABSENT), other.get(key, _ABSENT))
    elif isinstance(one, list) and isinstance(other, list):
        for number, (here, there) in enumerate(zip_longest(one, other, fillvalue=_ABSENT)):
            yield from _unequal(f"{place}: {number}", here, there)
    else:
        yield place, one, other


def _content(token: Any) -> Any:
    """A special token may be written with its properties, and a flag that is off left out."""
    return (token.get("content") if isinstance(token, Mapping) else token) or None


def _template(directory: Path, settings: Mapping[str, Any]) -> str:
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return str(settings.get("chat_template") or "")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"is not JSON ({error})", where=str(path), remedy="restore the file") from error
    if not isinstance(content, dict):
        raise ArtifactError("is not a JSON object", where=str(path), remedy="restore the file")
    return {key: value for key, value in content.items() if key not in _WITHOUT_EFFECT}


def _shown(value: Any) -> str:
    if value is _PRESENT:
        return "present"
    if value is _ABSENT or value is None:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
