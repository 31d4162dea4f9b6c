"""Settings of `nano2 bench eval`."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from stages.bench.settings import BenchConfig, result_file
from stages.common.config import ModelPath, Short

DEFAULT_OUT = Path("docs/bench/eval.json")


class EvalBenchConfig(BenchConfig):
    """Compare evaluation with lm-eval's own hf backend on this CPU: the scores, and the time.

    Both sides get the same weights, threads and requests of the tasks that come with nano2: multiple choice, perplexity and
    greedy generation. The hf backend runs at the batch size and precision that are best for it, found by a sweep for each
    kind of request; then the sides take turns. Leave the machine alone meanwhile: it takes about five minutes on two cores.
    """

    default_out: ClassVar[Path] = DEFAULT_OUT

    model: ModelPath | None = Field(
        None, description="Model artifact to evaluate; if not set, a fresh one of the preset mini-3m."
    )
    out: Annotated[Path | None, Short("o")] = result_file(DEFAULT_OUT)
    quick: bool = Field(
        False, description="Few requests, one batch size, float32: half a minute, rough figures."
    )
