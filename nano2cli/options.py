"""Flags from a pydantic config, and a config from flags and a recipe.

Typer only splits the command line; values reach pydantic as text, so that a flag and a recipe are read by
the same rules and a bad value gives the same message.
"""

import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import typer
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from rich.markup import escape

from model.errors import UsageError
from nano2cli.recipe import parse_scalar
from stages.common.config import Marker, Metavar, Panel, Positional, Short, StageConfig, marker
from stages.common.sizes import format_bytes, format_size, parse_byte_size, parse_size

SETTINGS_PANEL = "Settings"
NOTHING = "none"  # the word that unsets an optional setting

Shape = Literal["flag", "value", "list", "mapping"]


@dataclass(frozen=True)
class FieldOption:
    """One field of a config, as the command line sees it.

    shape: `flag` is --x/--no-x, `value` takes one word, `list` can be repeated, `mapping` is repeated
    KEY=VALUE.
    item: the type of the value, of a list's item or of a mapping's value, None and metadata taken off.
    """

    name: str
    field: FieldInfo
    shape: Shape
    item: Any
    metadata: tuple[Any, ...]
    optional: bool

    @classmethod
    def of(cls, name: str, field: FieldInfo) -> "FieldOption":
        annotation, metadata, optional = _unwrap(field.annotation)
        metadata = (*field.metadata, *metadata)
        origin = get_origin(annotation)
        shape: Shape = "value"
        if annotation is bool:
            shape = "flag"
        elif origin in (list, tuple, set, frozenset) or (
            inspect.isclass(origin) and issubclass(origin, Sequence)
        ):
            shape = "list"
            annotation, extra, _ = _unwrap(get_args(annotation)[0])
            metadata = (*metadata, *extra)
        elif origin in (dict, Mapping) or (inspect.isclass(origin) and issubclass(origin, Mapping)):
            shape = "mapping"
            annotation, extra, _ = _unwrap(get_args(annotation)[1])
            metadata = (*metadata, *extra)
        elif (
            inspect.isclass(annotation)
            and issubclass(annotation, BaseModel)
            and not any(isinstance(item, Metavar) for item in metadata)
        ):
            shape = "mapping"
            annotation = Any
        return cls(name, field, shape, annotation, metadata, optional)

    @property
    def flag(self) -> str:
        """How the user names it: `--log-every`, or `LOG_EVERY` for an argument."""
        return self.name.upper() if self.positional else "--" + self.name.replace("_", "-")

    @property
    def positional(self) -> bool:
        return marker(self.field, Positional) is not None

    @property
    def panel(self) -> str:
        """The heading under which the help page lists it."""
        panel = marker(self.field, Panel)
        return panel.title if panel else SETTINGS_PANEL

    @property
    def metavar(self) -> str:
        """What the help page writes for a value."""
        if told := self._marker(Metavar):
            return told.text
        if self.shape == "mapping":
            return "KEY=VALUE"
        if self.choices:
            return "|".join(self.choices)
        readers = [item.func for item in self.metadata if isinstance(item, BeforeValidator)]
        if parse_size in readers:
            return "SIZE"
        if parse_byte_size in readers:
            return "BYTES"
        names = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
        parts = [
            get_args(part) if get_origin(part) is Literal else [part] for part in _union_parts(self.item)
        ]
        return "|".join(
            names.get(word, str(word) if isinstance(word, str) else "VALUE")
            for part in parts
            for word in part
        )

    def parameter(self) -> inspect.Parameter:
        """The parameter of the command's function from which Typer makes the flag or argument."""
        annotation: Any = bool if self.shape == "flag" else list[str] if self.shape != "value" else str
        settings: dict[str, Any] = {
            "help": self._help(),
            "show_default": False,
            "metavar": None if self.shape == "flag" else self.metavar,
        }
        if self.choices:
            settings["autocompletion"] = lambda: self.choices
        if self.positional:
            info = typer.Argument(**settings | {"metavar": self.flag})
        else:
            settings["rich_help_panel"] = self.panel
            info = typer.Option(*self._declarations(), **settings)
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[annotation | None, info],
        )

    def value(self, raw: Any, recipe_value: Any = None) -> Any:
        """What pydantic gets for the text on the command line. A mapping is laid over the recipe's."""
        if self.shape == "flag":
            return raw
        if self.shape == "list":
            return [self._scalar(text) for text in raw]
        if self.shape == "mapping":
            given = dict(self._pair(text) for text in raw)
            return {**recipe_value, **given} if isinstance(recipe_value, dict) else given
        return None if self.optional and raw == NOTHING else self._scalar(raw)

    @property
    def choices(self) -> list[str]:
        """The words that a Literal or an Enum allows; empty for other types."""
        return [str(choice) for choice in self._choices()]

    def _choices(self) -> list[Any]:
        if get_origin(self.item) is Literal:
            return list(get_args(self.item))
        if inspect.isclass(self.item) and issubclass(self.item, Enum):
            return [member.value for member in self.item]
        return []

    def _scalar(self, text: str) -> Any:
        for choice in self._choices():
            if text == str(choice):
                return choice
        if self.item is Any or _is_union(self.item):
            return parse_scalar(text)
        return text

    def _pair(self, text: str) -> tuple[str, Any]:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(
                f"{text!r} is not KEY=VALUE", where=self.flag, remedy=f"write {self.flag} key=value"
            )
        return key, self._scalar(value)

    def _declarations(self) -> list[str]:
        short = self._marker(Short)
        flags = f"{self.flag}/--no-{self.flag[2:]}" if self.shape == "flag" else self.flag
        return [flags, f"-{short.letter}"] if short else [flags]

    def _marker(self, kind: type[Marker]) -> Marker | None:
        """The metadata of class `kind` on the field, its type or the type of its items, or None."""
        return next((item for item in self.metadata if isinstance(item, kind)), None)

    def _help(self) -> str:
        facts = []
        if self.field.is_required():
            facts.append("required")
        elif (shown := self._default()) != "":
            facts.append(f"default: {shown}")
        facts += [bound for item in self.metadata if (bound := _bound(item))]
        if self.shape in ("list", "mapping"):
            facts.append("repeatable")
        text = escape(self.field.description or "")
        return f"{text} [dim]{escape('[' + '; '.join(facts) + ']')}[/dim]" if facts else text

    def _default(self) -> str:
        default = self.field.get_default(call_default_factory=True, validated_data={})
        if default is None or default in ((), [], {}, ""):
            return ""
        if isinstance(default, Mapping):
            return ", ".join(f"{key}={value}" for key, value in default.items())
        if isinstance(default, list | tuple | set | frozenset):
            return ", ".join(map(self._show, default))
        return self._show(default)

    def _show(self, value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, Enum):
            return str(value.value)
        if isinstance(value, int) and self.metavar == "SIZE":
            return format_size(value)
        if isinstance(value, int) and self.metavar == "BYTES":
            return short if parse_byte_size(short := format_bytes(value)) == value else str(value)
        return f"{value:g}" if isinstance(value, float) else str(value)


def field_options(config: type[StageConfig]) -> list[FieldOption]:
    """One option a field, in the order of the class."""
    return [FieldOption.of(name, field) for name, field in config.model_fields.items()]


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """Take `Annotated` and `| None` off a type: the bare type, the metadata, and whether None is allowed."""
    metadata: tuple[Any, ...] = ()
    optional = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *extra = get_args(annotation)
            metadata += tuple(extra)
        elif _is_union(annotation) and type(None) in get_args(annotation):
            optional = True
            annotation = Union[tuple(part for part in get_args(annotation) if part is not type(None))]  # noqa: UP007
        else:
            return annotation, metadata, optional


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _union_parts(annotation: Any) -> Iterable[Any]:
    return [_unwrap(part)[0] for part in get_args(annotation)] if _is_union(annotation) else [annotation]


def _bound(item: Any) -> str:
    for kind, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
        if isinstance(item, getattr(annotated_types, kind.capitalize())):
            return f"{sign} {getattr(item, kind)}"
    return ""
