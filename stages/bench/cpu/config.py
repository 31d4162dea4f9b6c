"""Settings of `nano2 bench cpu`."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from stages.bench.settings import BenchConfig, result_file
from stages.common.config import Short

DEFAULT_OUT = Path("docs/bench/cpu.json")


class CpuBenchConfig(BenchConfig):
    """Compare this core with transformers on this CPU: training steps, peak memory, cached decode.

    Both sides run the same weights (preset mini-8m, 8M parameters) on the same threads, each at its own best batch size,
    precision and kernels, found by a sweep. Every setting is measured in a fresh process, the sides in turns. Leave the
    machine alone meanwhile: it takes about eight minutes on two cores.
    """

    default_out: ClassVar[Path] = DEFAULT_OUT

    out: Annotated[Path | None, Short("o")] = result_file(DEFAULT_OUT)
    quick: bool = Field(
        False, description="One batch size, float32 and few repeats: a minute, rough figures."
    )
