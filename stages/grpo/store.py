"""Rollouts in OUT.run, from which a run that was killed between two updates on the same ones goes on bit for bit.

A batch is `rollouts/00000007.safetensors`, its tensors, and `00000007.json`, what is told of it: small, written last, and
never removed. Tensors are removed once a saved state lies behind their last update. Batches behind the newest state serve
again, since the run that continues there comes to the same weights.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from model.artifact.staging import write_text_atomic
from model.artifact.weights import save_tensors
from model.errors import ArtifactError
from stages.common.training.checkpoint import saved_states
from stages.grpo.batch import PolicyBatch


@dataclass(frozen=True)
class Rollouts:
    """One batch. next_prompt: the first prompt of the next one. figures: for the log. shown: episodes for reading."""

    batch: PolicyBatch
    next_prompt: int
    figures: Mapping[str, float]
    shown: Sequence[Mapping[str, Any]]


class RolloutStore:
    """The batches of a run with `updates` steps on each."""

    def __init__(self, run_dir: Path, updates: int) -> None:
        self._run_dir = run_dir
        self._directory = run_dir / "rollouts"
        self._updates = updates

    def save(self, number: int, rollouts: Rollouts) -> None:
        """Keep a batch, and remove the tensors of those that no saved state needs."""
        self._directory.mkdir(exist_ok=True)
        tensors = self._path(number, "safetensors")
        aside = tensors.with_suffix(".tmp")
        save_tensors(rollouts.batch.tensors(), aside)
        aside.rename(tensors)
        told = {
            "count": rollouts.batch.count,
            "next_prompt": rollouts.next_prompt,
            "figures": dict(rollouts.figures),
            "shown": list(rollouts.shown),
        }
        write_text_atomic(self._path(number, "json"), json.dumps(told, ensure_ascii=False))
        states = saved_states(self._run_dir)
        needed = int(states[-1].name.rpartition("-")[2]) // self._updates if states else 0
        for path in self._directory.glob("*.safetensors"):
            if int(path.stem) < needed:
                path.unlink()

    def load(self, number: int) -> Rollouts | None:
        """A batch that was kept; None where there is none. ArtifactError if it cannot be read."""
        tensors = self._path(number, "safetensors")
        if not (tensors.exists() and self._path(number, "json").exists()):
            return None
        told = self._told(number)
        try:
            batch = PolicyBatch(**load_file(tensors), count=told["count"])
        except Exception as error:  # safetensors' own, OSError, TypeError: all mean the same here
            raise _unreadable(tensors, error) from error
        return Rollouts(batch, told["next_prompt"], told["figures"], told["shown"])

    def next_prompt(self, number: int) -> int:
        """The first prompt of batch `number`."""
        return int(self._told(number - 1)["next_prompt"]) if number else 0

    def write_shown(self, batches: int, path: Path) -> None:
        """The episodes for reading of the first batches, one JSON object a line with its first step."""
        with path.open("w", encoding="utf-8") as file:
            for number in range(batches):
                for line in self._told(number)["shown"]:
                    row = {"step": number * self._updates + 1, **line}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _told(self, number: int) -> dict[str, Any]:
        path = self._path(number, "json")
        try:
            told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        return told

    def _path(self, number: int, suffix: str) -> Path:
        return self._directory / f"{number:08d}.{suffix}"


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"rollouts that were kept cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})",
        where=str(path),
        remedy="restore the file, or start over with --overwrite",
    )
