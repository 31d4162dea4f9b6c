"""The base of every stage's settings, and the field types that mean the same in every stage.

A stage's config is one frozen pydantic model. The command line makes a flag of each field, a recipe sets the
same names, `nano2.json` records them, and reuse and resume compare them. Nothing here imports torch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

Marker = TypeVar("Marker")


# Field metadata: `Annotated[int, Cosmetic(), Panel("Logging")]`
@dataclass(frozen=True)
class Short:
    """The field's flag also has a one-letter form: `Short("m")` is `-m`."""

    letter: str


@dataclass(frozen=True)
class Metavar:
    """What the help page writes for a value whose type does not say it: `Metavar("NAME[:LEVEL]")`. A model that has one is
    written as one word."""

    text: str


@dataclass(frozen=True)
class Positional:
    """The field is an argument of the command and has no flag."""


@dataclass(frozen=True)
class Cosmetic:
    """The field does not change what the stage makes (how often to log, how many workers): a finished or
    interrupted run that differs only here is still the same run."""


@dataclass(frozen=True)
class Arrangement:
    """The field says how the work is cut, which changes results by rounding alone: an interrupted run may go on with another
    value, while a finished artifact is that of its own."""


@dataclass(frozen=True)
class Panel:
    """The heading under which `--help` lists the field."""

    title: str


InputVisitor = Callable[[Path, float | None], JsonValue]
"""Called with the path and weight of each input during a dump; what it returns stands for the input."""


def _dump_input(path: Path, info: SerializationInfo) -> JsonValue:
    return info.context(path, None) if info.context else str(path)


InputPath = Annotated[Path, PlainSerializer(_dump_input)]
"""A parent artifact or a data file. The harness checks that it is there, hashes it and records it as a
parent."""

ModelPath = Annotated[InputPath, Short("m")]
"""The model artifact that a stage starts from, `-m`."""


class WeightedPath(BaseModel, extra="forbid", frozen=True):
    """A data input and its weight in a blend, written `PATH[:weight]`.

    A path that exists is taken whole, so a ':' in a file name does no harm.
    """

    path: InputPath
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "examples": ["PATH", "PATH:0.5"]}, handler(core_schema)]}

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if isinstance(value, Path):
            value = str(value)
        if not isinstance(value, str):
            return value
        if not value:
            raise ValueError("the path is empty")
        head, colon, tail = value.rpartition(":")
        weight = _as_number(tail)
        if not colon or weight is None or Path(value).exists():
            return {"path": value}
        if not head:
            raise ValueError(f"{value!r} has a weight but no path")
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"the weight in {value!r} must be a positive number")
        return {"path": head, "weight": weight}

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        return info.context(self.path, self.weight) if info.context else handler(self)

    def __str__(self) -> str:
        return f"{self.path}:{self.weight:g}"


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


WEIGHTED_PATH = Metavar("PATH[:WEIGHT]")

DataPaths = Annotated[tuple[WeightedPath, ...], Short("d"), WEIGHTED_PATH]
"""Weighted data inputs, `-d PATH[:weight]`, repeatable."""


def parse_names(value: object) -> object:
    """Names from `a,b` as a flag gives them; the items of a list may be written so, too."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(
        part.strip() if isinstance(part, str) else part
        for item in items
        for part in (str(item).split(",") if isinstance(item, str | Path) else [item])
        if part != ""
    )


class StageConfig(BaseModel):
    """The settings of one stage. Every field has a description: it is the flag's help.

    Unknown keys, NaN and infinities are refused. The docstring of a subclass is the command's help page.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: object, info: Any) -> object:
        # pydantic would read `steps: true` as 1
        if isinstance(value, bool) and not _accepts_bool(cls.model_fields[info.field_name].annotation):
            raise ValueError(f"{str(value).lower()} is not a value for this setting")
        return value

    def resolved(self, hashes: Mapping[Path, str]) -> dict[str, JsonValue]:
        """Every setting as plain JSON, an input as `{"path", "content_hash"}` and, in a blend, `"weight"`.

        `hashes` gives the content hash of each input (KeyError if one lacks). This is `nano2.json`'s
        `config`.
        """

        def describe(path: Path, weight: float | None) -> JsonValue:
            described: dict[str, JsonValue] = {"path": str(path), "content_hash": hashes[path]}
            return described if weight is None else described | {"weight": weight}

        return self.model_dump(mode="json", context=describe)

    @classmethod
    def cosmetic_fields(cls) -> frozenset[str]:
        """The names of the fields marked `Cosmetic`."""
        return cls._marked(Cosmetic)

    @classmethod
    def arrangement_fields(cls) -> frozenset[str]:
        """The names of the fields marked `Arrangement`."""
        return cls._marked(Arrangement)

    @classmethod
    def _marked(cls, kind: type[Any]) -> frozenset[str]:
        return frozenset(name for name, field in cls.model_fields.items() if marker(field, kind))


def marker(field: FieldInfo, kind: type[Marker]) -> Marker | None:
    """The metadata of class `kind` on a field, or None."""
    return next((item for item in field.metadata if isinstance(item, kind)), None)


def _accepts_bool(annotation: Any) -> bool:
    return (
        annotation in (bool, Any)
        or isinstance(annotation, bool)
        or any(map(_accepts_bool, get_args(annotation)))
    )
