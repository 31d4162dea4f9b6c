import json
from pathlib import Path
from typing import Any

from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.dpo.stage import STAGE

Settings = dict[str, Any]


def dpo(settings: Settings, out: Path, reporter: QuietReporter | None = None, **how: bool) -> StageOutcome:
    config = STAGE.config.model_validate(settings)
    return run_stage(
        STAGE, config, out=out, reporter=reporter or QuietReporter(), command=["nano2", "dpo"], **how
    )


def logged(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]
