"""Settings of `nano2 compare`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from stages.common.config import InputPath, Positional, StageConfig


class CompareConfig(StageConfig):
    """Compare evaluations item by item: is one model better, or was it luck?

    The first is what the others are compared with. Items are paired by their content, so order and --limit may differ.
    For each task: both scores, their difference with a bootstrap interval, the p-value of a permutation test (also
    corrected for the number of tests), and the items that are right in one of the two alone.
    """

    evaluations: Annotated[tuple[InputPath, ...], Positional()] = Field(
        min_length=2, description="Artifacts of nano2 eval, the one to compare with first."
    )
    metric: str | None = Field(None, description="Compare this metric; by default each task's first.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of the intervals.")
    resamples: int = Field(
        10_000, ge=100, le=10_000_000, description="Of the bootstrap and the permutation test."
    )
    seed: int = Field(0, ge=0, description="Seed of both.")
    flips: int = Field(10, ge=0, description="Items to show of each task that became right or wrong.")
    report: Path | None = Field(None, description="Also write a report.html with plots here.")

    @field_validator("evaluations")
    @classmethod
    def _no_repetition(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        if len({path.resolve() for path in paths}) < len(paths):
            raise ValueError("an evaluation is named twice")
        return paths
