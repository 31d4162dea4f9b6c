"""Running the stage, and stopping it."""

import json
from pathlib import Path
from typing import Any

from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.distill.stage import STAGE

Settings = dict[str, Any]


def distill(settings: Settings, out: Path, reporter: QuietReporter | None = None) -> StageOutcome:
    config = STAGE.config.model_validate(settings)
    return run_stage(
        STAGE, config, out=out, reporter=reporter or QuietReporter(), command=["nano2", "distill"]
    )


def logged(out: Path) -> list[dict[str, Any]]:
    """The lines of training steps."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]
