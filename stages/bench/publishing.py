"""Where a benchmark's figures go: into a result file, if one is asked for, and to the terminal."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.artifact.environment import describe_device
from model.errors import UsageError
from stages.bench.settings import BenchConfig
from stages.common.results import TABLE, Cell, write_result
from stages.common.stage import StageContext, StageResult


def publish(
    config: BenchConfig,
    context: StageContext,
    metrics: Mapping[str, float],
    rows: Sequence[Mapping[str, Cell]],
    notes: Sequence[str],
    threads: int,
) -> StageResult:
    """Write the result file, and return its metrics and its best rows."""
    out = config.result_path
    if out is not None:
        write_result(
            out,
            command=context.command,
            metrics=metrics,
            rows=rows,
            device=describe_device() | {"threads": threads},
        )
    return StageResult(
        metrics=dict(metrics),
        rows=[
            {key: cell for key, cell in row.items() if key not in (TABLE, "best")}
            for row in rows
            if row.get("best")
        ],
        notes=[*notes, *([f"{out} written"] if out is not None else [])],
    )


def check_writable(out: Path) -> None:
    """Refuse what could not be written before minutes are spent on measuring. Creates the parent directory."""
    remedy = "give -o a file name ending in .json in a directory that you can write to"
    if out.suffix != ".json" or out.is_dir():
        raise UsageError("is no name for a result file", where=str(out), remedy=remedy)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"its directory cannot be made ({error.strerror})", where=str(out), remedy=remedy
        ) from error
    if not os.access(out.parent, os.W_OK):
        raise UsageError("its directory cannot be written to", where=str(out), remedy=remedy)
