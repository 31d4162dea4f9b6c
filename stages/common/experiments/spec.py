"""An experiment as its recipe states it before anything runs: the grid of runs, what is measured, what is claimed.

A run whose name holds `{seed}` is made once a seed, any other once for all. In a run's settings `@NAME` stands for the
artifact of another run and `{seed}` for the seed.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.config import describe
from model.errors import UsageError

SEED = "{seed}"
_REFERENCE = re.compile(r"@([A-Za-z0-9_.-]+(?:\{seed\})?[A-Za-z0-9_.-]*)")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Run(_Part):
    """One command: `nano2 STAGE`, a recipe's settings and over them those given here.

    after: runs that it needs besides those its settings refer to.
    """

    stage: str
    recipe: Path | None = None
    settings: dict[str, Any] = {}
    after: tuple[str, ...] = ()


class Measure(_Part):
    """Rows of a table, one a seed: the figures of an evaluation, and the artifact that it is about.

    figures: column name to the name of a metric in the evaluation's nano2.json, or with `step` of what its metrics.jsonl
    says of that step.
    """

    table: str
    arm: str
    artifact: str
    evaluation: str
    figures: dict[str, str] = Field(min_length=1)
    step: int | None = Field(None, ge=0)


class Claim(_Part):
    """`treatment` beats `control` in a figure of a table, or with `within` is as good, up to that share of it.

    It counts as tested only if the control's mean lies between `floor` and `ceiling`, both excluded: what a model that
    cannot do the task reaches, and what leaves no room above.
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    table: str
    figure: str
    treatment: str
    control: str
    floor: float
    ceiling: float
    better: Literal["higher", "lower"] = "higher"
    within: float | None = Field(None, gt=0)


class Experiment(_Part):
    """The whole recipe. jobs: runs at a time; threads: CPU threads of each, which are part of its arithmetic."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    seeds: tuple[int, ...] = Field(min_length=1)
    jobs: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    runs: dict[str, Run]
    measures: tuple[Measure, ...]
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> "Experiment":
        for name, run in self.runs.items():
            for other in (*references(run.settings), *run.after):
                if other not in self.runs:
                    raise ValueError(f"run {name!r} refers to @{other}, which is no run")
                if SEED in other and SEED not in name:
                    raise ValueError(f"run {name!r} is made once, but refers to @{other}, one a seed")
        for measure in self.measures:
            for other in (measure.artifact, measure.evaluation):
                if other not in self.runs:
                    raise ValueError(f"the measure of arm {measure.arm!r} names {other!r}, which is no run")
        arms = {(m.table, m.arm, figure) for m in self.measures for figure in m.figures}
        for claim in self.claims:
            for arm in (claim.treatment, claim.control):
                if (claim.table, arm, claim.figure) not in arms:
                    raise ValueError(
                        f"claim {claim.name!r}: nothing measures {claim.figure!r} of {arm!r} in {claim.table!r}"
                    )
        return self

    def made(self) -> dict[str, "MadeRun"]:
        """Every single run by its final name, each after those it needs. UsageError where they need each other."""
        single = {
            filled(name, seed): MadeRun.of(filled(name, seed), run, seed)
            for name, run in self.runs.items()
            for seed in (self.seeds if SEED in name else (None,))
        }
        ordered: dict[str, MadeRun] = {}
        while len(ordered) < len(single):
            ready = [
                run for run in single.values() if run.name not in ordered and run.needs <= ordered.keys()
            ]
            if not ready:
                raise UsageError(
                    "runs need each other in a circle",
                    where=", ".join(single.keys() - ordered.keys()),
                    remedy="break the circle of @references",
                )
            ordered |= {run.name: run for run in ready}
        return ordered


class MadeRun(_Part):
    """A run of one seed. `settings` still hold `@NAME`, with the seed filled in."""

    name: str
    stage: str
    recipe: Path | None
    settings: dict[str, Any]
    after: tuple[str, ...]

    @classmethod
    def of(cls, name: str, run: Run, seed: int | None) -> "MadeRun":
        return cls(
            name=name,
            stage=run.stage,
            recipe=run.recipe,
            settings=_filled_in(run.settings, seed),
            after=tuple(filled(other, seed) for other in run.after),
        )

    @property
    def needs(self) -> set[str]:
        return {*references(self.settings), *self.after}

    def resolved(self, folder: Path) -> dict[str, Any]:
        """The settings with the paths of artifacts below `folder`."""
        return _mapped(self.settings, lambda text: _REFERENCE.sub(lambda match: str(folder / match[1]), text))


def filled(name: str, seed: int | None) -> str:
    return name if seed is None else name.replace(SEED, str(seed))


def references(settings: Mapping[Any, Any]) -> Iterator[str]:
    """Names of the runs that settings refer to."""
    for value in settings.values():
        if isinstance(value, str):
            yield from _REFERENCE.findall(value)
        elif isinstance(value, Mapping):
            yield from references(value)
        elif isinstance(value, list | tuple):
            yield from references(dict(enumerate(value)))


def read_experiment(path: Path) -> Experiment:
    """UsageError naming what is wrong in the file."""
    try:
        return Experiment.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise UsageError(describe(error), where=str(path), remedy="correct the recipe") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"cannot be read ({error})", where=str(path), remedy="give an experiment's YAML"
        ) from error


def _filled_in(settings: Any, seed: int | None) -> Any:
    """A setting that is nothing but `{seed}` becomes the number."""
    if settings == SEED and seed is not None:
        return seed
    return _mapped(settings, lambda text: seed if text == SEED and seed is not None else filled(text, seed))


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return value
