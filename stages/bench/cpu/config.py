"""Settings of `nano2 bench cpu`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from stages.common.config import Short, StageConfig

DEFAULT_OUT = Path("docs/bench/cpu.json")


class CpuBenchConfig(StageConfig):
    """Compare this core with transformers on this CPU: training steps, peak memory, cached decode.

    Both sides run the same weights (preset mini-8m, 8M parameters) on the same threads, each at its own best batch size,
    precision and kernels, found by a sweep. Every setting is measured in a fresh process, the sides in turns. Leave the
    machine alone meanwhile: it takes about eight minutes on two cores.
    """

    out: Annotated[Path | None, Short("o")] = Field(
        None, description=f"Result file to write; with --quick none, else {DEFAULT_OUT}."
    )
    quick: bool = Field(
        False, description="One batch size, float32 and few repeats: a minute, rough figures."
    )
    threads: int | None = Field(
        None, gt=0, description="Threads of either side; those of PyTorch if not set."
    )

    @property
    def result_path(self) -> Path | None:
        """Where the result goes: a quick run never replaces the full one unasked."""
        return self.out if self.out is not None or self.quick else DEFAULT_OUT
