"""Settings of `nano2 bench eval`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from stages.common.config import ModelPath, Short, StageConfig

DEFAULT_OUT = Path("docs/bench/eval.json")


class EvalBenchConfig(StageConfig):
    """Compare evaluation with lm-eval's own hf backend on this CPU: the scores, and the time.

    Both sides get the same weights, threads and requests of the tasks that come with nano2: multiple choice, perplexity and
    greedy generation. The hf backend runs at the batch size and precision that are best for it, found by a sweep for each
    kind of request; then the sides take turns. Leave the machine alone meanwhile: it takes about five minutes on two cores.
    """

    model: ModelPath | None = Field(
        None, description="Model artifact to evaluate; if not set, a fresh one of the preset mini-3m."
    )
    out: Annotated[Path | None, Short("o")] = Field(
        None, description=f"Result file to write; with --quick none, else {DEFAULT_OUT}."
    )
    quick: bool = Field(
        False, description="Few requests, one batch size, float32: half a minute, rough figures."
    )
    threads: int | None = Field(
        None, gt=0, description="Threads of either side; those of PyTorch if not set."
    )

    @property
    def result_path(self) -> Path | None:
        """Where the result goes: a quick run never replaces the full one unasked."""
        return self.out if self.out is not None or self.quick else DEFAULT_OUT
