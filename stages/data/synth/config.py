"""Settings of `nano2 data synth`."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_serializer, model_validator

from stages.common.config import Metavar, Panel, StageConfig
from stages.common.sizes import Size

MAX_LEVEL = 50
MAX_ROWS = 10_000_000  # each takes some 90 bytes of memory, to know its problem again

Kind = Literal["reasoning", "instructions", "tools", "desk", "recall"]

DEFAULT_KINDS: dict[Kind, float] = {"reasoning": 3.0, "instructions": 1.0, "tools": 1.0}
"""Shares where nothing is said. The desk, meant for an environment, and recall come only where they are asked for."""


class FamilyLevels(BaseModel, extra="forbid", frozen=True):
    """A family and the levels to draw from, written `NAME`, `NAME:LEVEL` or `NAME:LOW-HIGH`."""

    name: str
    low: int | None = Field(None, ge=1, le=MAX_LEVEL)
    high: int | None = Field(None, ge=1, le=MAX_LEVEL)

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        name, colon, levels = value.partition(":")
        if name and not colon:
            return {"name": name}
        low, dash, high = levels.partition("-")
        if not (name and low.isdecimal() and (not dash or high.isdecimal())):
            raise ValueError(f"{value!r} is not NAME, NAME:LEVEL or NAME:LOW-HIGH")
        return {"name": name, "low": int(low), "high": int(high if dash else low)}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"levels {self.low}-{self.high} run backwards")
        return self

    @model_serializer
    def _written(self) -> str:
        return self.name if self.low is None else f"{self.name}:{self.low}-{self.high}"


class SynthConfig(StageConfig):
    """Make problems with verified answers: reasoning, instructions to follow, dialogues with tools, errands at a desk.

    Writes train.jsonl, dev.jsonl and test.jsonl, lines of chat jsonl with a reference answer, its reasoning and a
    grader. No problem is in two of them, whatever the seed or size, and some wordings appear in dev and test only.

    Families of reasoning: sums, columns, products, remainders, chains, equations, booleans, counting, letters, ordering,
    lists, grid, graphs, dates, units, stories. Of instructions: keywords, length, layout, style, whole. Of tools:
    library, todo, stock, timetable, contacts. The kind desk has one family, desk, and recall one, copies; both are drawn
    only if asked for. Levels start at 1.
    """

    train: Size = Field(10_000, ge=0, le=MAX_ROWS, description="Rows of train.jsonl.")
    dev: Size = Field(500, ge=0, le=MAX_ROWS, description="Rows of dev.jsonl.")
    test: Size = Field(500, ge=0, le=MAX_ROWS, description="Rows of test.jsonl.")
    kinds: dict[Kind, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="Kinds of rows and their shares, in any unit; if left out, reasoning=3, instructions=1 and tools=1, as "
        "far as there are families of the kind, and desk=1 or recall=1 if its family is named.",
    )
    families: tuple[Annotated[FamilyLevels, Metavar("NAME[:LEVEL]")], ...] = Field(
        (),
        description="Families to draw from, each NAME, NAME:LEVEL or NAME:LOW-HIGH; if left out, all of the kinds. A kind's "
        "families, and a family's levels, have equal shares.",
    )
    min_level: int = Field(
        1, ge=1, le=MAX_LEVEL, description="Lowest level of families named without levels."
    )
    max_level: int = Field(
        3, ge=1, le=MAX_LEVEL, description="Highest level of families named without levels."
    )
    thinking: float = Field(
        1.0, ge=0, le=1, description="Share of rows with reasoning; the others answer at once."
    )
    traces: tuple[Literal["short", "long", "checked"], ...] = Field(
        ("short",),
        min_length=1,
        description="Reasoning traces, each as often: one line a step, steps worked out, or worked out and then checked.",
    )
    held_out: float = Field(
        0.5, ge=0, le=1, description="Share of dev and test rows in wordings that train never uses."
    )
    error_rate: Annotated[float, Panel("Tool dialogues")] = Field(
        0.1,
        ge=0,
        le=0.9,
        description="Chance that the scripted assistant gets a call wrong; dialogues that fail for it are thrown away.",
    )
    flawed: Annotated[float, Panel("Desk")] = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the train rows at the desk in which the assistant does nothing and says that it is done: "
        "demonstrations as sloppy as real ones can be, for alignment to mend.",
    )
    pairs: bool = Field(
        False,
        description="Also write train-pairs.jsonl and so on: preferences of right answers to wrong ones, of problems that "
        "are answered in one turn.",
    )
    seed: int = Field(0, ge=0, description="Chooses problems and wordings; not the split of a problem.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.min_level > self.max_level:
            raise ValueError(f"min_level {self.min_level} is above max_level {self.max_level}")
        if not self.train + self.dev + self.test:
            raise ValueError("no rows are asked for: train, dev and test are all 0")
        names = [item.name for item in self.families]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the family {twice!r} is given twice")
        return self
