"""Recipes: YAML files with a stage's settings. What YAML lets slip (duplicate keys, `1e-3` as text, `no` as
false) is caught or read as meant here.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from model.errors import UsageError
from nano2cli.suggest import did_you_mean

STAGE_KEY = "stage"

_NULL = "tag:yaml.org,2002:null"
_NULL_WORDS = re.compile("~|null|Null|NULL")


@dataclass(frozen=True)
class Recipe:
    """The settings of a recipe file, and the line (from 1) on which each one stands."""

    path: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def where(self, key: str) -> str:
        return f"{self.path}, line {self.lines[key]}, key {key!r}" if key in self.lines else str(self.path)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2: only `true` and `false` are booleans, `1e-3` is a number,
    `010` and `1:30` are not octal and sexagesimal; and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} appears twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", _NULL_WORDS.pattern + "|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 16) if text.lower().startswith("0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def load_recipe(path: Path, stage: str, known: set[str]) -> Recipe:
    """Read a recipe for `stage`. An empty file is a recipe without settings.

    Raises UsageError for a file that cannot be read or is no YAML mapping, for a key that is not in `known`,
    and for a recipe whose `stage:` is another.
    """
    settings, lines = _read(path)
    recipe = Recipe(path, settings, lines)
    if STAGE_KEY in settings:
        wanted = settings.pop(STAGE_KEY)
        if wanted != stage:
            raise UsageError(
                f"the recipe is for {wanted!r}, not for {stage!r}",
                where=recipe.where(STAGE_KEY),
                remedy=f"run nano2 {wanted} --config {path}, or give another recipe",
            )
    for key in settings:
        if key not in known:
            raise UsageError(
                f"is not a setting of {stage!r}{did_you_mean(key, known)}",
                where=recipe.where(key),
                remedy=f"see nano2 {stage} --help for the settings",
            )
    return recipe


def parse_scalar(text: str) -> Any:
    """One value as a recipe would read it: `4` a number, `true` a boolean, anything else text."""
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text
    is_null = value is None and _NULL_WORDS.fullmatch(text)
    return value if is_null or isinstance(value, bool | int | float) else text


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"the recipe cannot be read ({error.strerror})",
            where=str(path),
            remedy="check the path given to --config",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the recipe is not UTF-8 (byte {error.start})", where=str(path), remedy="save it as UTF-8 text"
        ) from error
    try:
        node = yaml.compose(text, _Loader)
        if node is None or node.tag == _NULL:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(
                "the recipe is not a mapping of settings",
                where=f"{path}, line {node.start_mark.line + 1}",
                remedy="write one 'setting: value' a line",
            )
        settings = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(
            f"the recipe is not valid: {_problem(error)}",
            where=_place(path, error),
            remedy="correct the YAML there",
        ) from error
    lines = {key.value: key.start_mark.line + 1 for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
    return {str(key): value for key, value in settings.items()}, lines


def _problem(error: Exception) -> str:
    return getattr(error, "problem", None) or str(error).partition("\n")[0]


def _place(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return str(path) if mark is None else f"{path}, line {mark.line + 1}, column {mark.column + 1}"
