"""Which shapes a search looks at: every combination of the depths and widths that the settings name. No torch here."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from model.config import HybridConfig
from model.errors import UsageError
from stages.common.config import Metavar
from stages.prune.kept import Shape

LARGEST_GRID = 100_000
AXES = ("layers", "hidden", "ffn", "mamba_heads", "mamba_head_dim", "attention_heads")
"""Fields of a shape, each a setting of the same name."""


def parse_sizes(value: object) -> object:
    """`4480`, `4480,4800` or `4480..5120:320`, both ends included; the items of a list may be written so, too."""
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(
        number
        for item in items
        for part in (item.split(",") if isinstance(item, str) else [item])
        for number in _numbers(part)
    )


def _numbers(part: object) -> Sequence[object]:
    if not isinstance(part, str) or ".." not in part:
        return [part]
    ends, _, step_text = part.partition(":")
    first_text, _, last_text = ends.partition("..")
    try:
        first, last, step = int(first_text), int(last_text), int(step_text)
    except ValueError:
        raise ValueError(f"{part!r} is not FROM..TO:STEP in whole numbers, such as 4480..5120:320") from None
    if not (0 < first <= last and step > 0):
        raise ValueError(f"{part!r} is an empty range")
    if (last - first) % step:
        raise ValueError(
            f"{part!r} does not end at {last}: the last step goes to {last - (last - first) % step}"
        )
    if (last - first) // step >= LARGEST_GRID:
        raise ValueError(f"{part!r} has more than {LARGEST_GRID} numbers")
    return range(first, last + 1, step)


Sizes = Annotated[
    tuple[Annotated[int, Field(gt=0)], ...], BeforeValidator(parse_sizes), Metavar("N|FROM..TO:STEP")
]


class GivenShape(BaseModel):
    """One shape by name, `layers=56,hidden=4480`; what is left out is as the model has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int | None = Field(None, gt=0)
    hidden: int | None = Field(None, gt=0)
    ffn: int | None = Field(None, gt=0)
    mamba_heads: int | None = Field(None, gt=0)
    mamba_head_dim: int | None = Field(None, gt=0)
    attention_heads: int | None = Field(None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",")]
        if not all(name and equals and number for name, equals, number in pairs):
            raise ValueError(f"{value!r} is not NAME=N,NAME=N, such as layers=56,hidden=4480")
        return {name.strip(): number for name, _, number in pairs}

    def within(self, whole: Shape) -> Shape:
        """The shape, completed by that of the model."""
        return Shape(**{**vars(whole), **self.model_dump(exclude_none=True)})


GIVEN_SHAPE = Metavar("NAME=N,...")


def grid(axes: Mapping[str, Sequence[int]], whole: HybridConfig) -> list[Shape]:
    """All combinations of `axes`; an axis without numbers stays as the model has it. Each is a shape that the model can be
    pruned to, UsageError otherwise; none if no axis has numbers."""
    if not any(axes.values()):
        return []
    own = vars(Shape.of(whole))
    choices: list[Sequence[Any]] = [sorted(set(axes[name])) or [own[name]] for name in AXES]
    if prod(map(len, choices)) > LARGEST_GRID:
        raise UsageError(
            f"the ranges make {prod(map(len, choices))} shapes, more than {LARGEST_GRID}",
            where="nano2 prune",
            remedy="take larger steps",
        )
    shapes = [Shape(*sizes) for sizes in product(*choices)]
    for shape in shapes:
        shape.check(whole)
    return shapes


def describe(shape: Shape, whole: Shape) -> str:
    """A shape in words; head dimension and attention heads only where they are not the model's."""
    words = [
        f"{shape.layers} layers",
        f"hidden {shape.hidden}",
        f"FFN {shape.ffn}",
        f"{shape.mamba_heads} Mamba heads",
    ]
    if shape.mamba_head_dim != whole.mamba_head_dim:
        words.append(f"of {shape.mamba_head_dim} channels")
    if shape.attention_heads != whole.attention_heads:
        words.append(f"{shape.attention_heads} attention heads")
    return ", ".join(words)


def name_of(shape: Shape) -> str:
    """The sizes of a shape, as they come, for names of files."""
    return "-".join(map(str, vars(shape).values()))
