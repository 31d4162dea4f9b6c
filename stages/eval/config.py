"""Settings of `nano2 eval`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.common.config import Cosmetic, ModelPath, Panel
from stages.common.evaluation.settings import EvaluationSettings


class EvalConfig(EvaluationSettings):
    """Measure a model on lm-eval tasks, in this process and without the network.

    The tasks named nano2_... come with nano2: --tasks nano2_base runs those for base models, nano2_math the mathematics,
    nano2_workbench episodes with tools. A jsonl of chats with graders is a task, too. OUT holds results.json as lm-eval
    writes it, report.html, and with --samples every question and answer. --plan lists the tasks. An interrupted run
    continues where it was.
    """

    model: ModelPath = Field(description="Model to measure.")
    samples: bool = Field(True, description="Also write samples_TASK.jsonl.")
    cache: Annotated[Path | None, Cosmetic()] = Field(
        None, description="Directory in which answers are kept for other evaluations of the same model."
    )
    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, Panel("Hardware")] = Field(
        None, description="Load the weights so; by default as they are stored."
    )
