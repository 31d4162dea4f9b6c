"""metrics.jsonl, one object a logged step, and the same figures for TensorBoard.

Both live in OUT.run while the stage runs. After an interruption, lines behind the saved state are dropped: the steps
they tell of are run again. Without a saved state no log stays there: a run that fails so early leaves nothing.
"""

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from model.artifact.staging import write_text_atomic
from stages.common.training.checkpoint import saved_states

METRICS_FILE = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class MetricsLog:
    """Open log of a run in `run_dir`, continuing after `step` steps."""

    def __init__(self, run_dir: Path, step: int, *, tensorboard: bool) -> None:
        self._path = run_dir / METRICS_FILE
        self._run_dir = run_dir
        kept = [line for line in self._lines() if json.loads(line)["step"] <= step]
        write_text_atomic(self._path, "".join(kept))
        self._file = self._path.open("a", encoding="utf-8")
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run_dir / TENSORBOARD), purge_step=step + 1)

    def write(self, step: int, **values: float | int | str) -> None:
        """Log one step. A NaN is written as null."""
        clean = {key: value if value == value else None for key, value in values.items()}
        self._file.write(json.dumps({"step": step, **clean}) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in values.items():
                if not isinstance(value, str):
                    self._board.add_scalar(key, value, step)

    def copy_to(self, directory: Path) -> None:
        """Put what was logged into the artifact."""
        self._file.flush()
        shutil.copyfile(self._path, directory / METRICS_FILE)
        if self._board is not None:
            self._board.flush()
            shutil.copytree(self._run_dir / TENSORBOARD, directory / TENSORBOARD)

    def _lines(self) -> list[str]:
        """Whole lines of what an earlier process logged; a last one cut short by its death is left out."""
        if not self._path.exists():
            return []
        return [
            line
            for line in self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            if line[-1] == "\n"
        ]

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
        if not saved_states(self._run_dir):
            self._path.unlink(missing_ok=True)
            shutil.rmtree(self._run_dir / TENSORBOARD, ignore_errors=True)
