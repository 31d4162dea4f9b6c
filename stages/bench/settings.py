"""What several benchmarks are told. No torch here."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from stages.common.config import Short, StageConfig, parse_names
from stages.common.sizes import Size

Count = Annotated[Size, Field(ge=1)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(parse_names), Field(min_length=1)]
"""Numbers from 1, separated by commas: what a benchmark goes through."""


def result_file(default: Path) -> Any:
    """The field of a benchmark's result file, which is `default` if a full run is told no other."""
    return Field(None, description=f"Result file to write; with --quick none, else {default}.")


class BenchConfig(StageConfig):
    """Of a benchmark of this CPU: the result file and the threads.

    `quick`, which a subclass describes, gives rough figures sooner.
    """

    default_out: ClassVar[Path]

    out: Annotated[Path | None, Short("o")] = None
    quick: bool = False
    threads: int | None = Field(
        None, gt=0, description="Threads of either side; those of PyTorch if not set."
    )

    @property
    def result_path(self) -> Path | None:
        """Where the result goes: a quick run never replaces the full one unasked."""
        return self.out if self.out is not None or self.quick else self.default_out
