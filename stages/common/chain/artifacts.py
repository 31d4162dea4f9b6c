"""The artifacts of a chain in one folder, and what was measured of them."""

import json
import math
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from evals.results import figure_name, figures
from evals.stored import StoredEvaluation, read_evaluation
from model.artifact.provenance import Provenance, read_provenance
from model.errors import ArtifactError

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Chain:
    """A folder of artifacts, each in a directory of its own name. ArtifactError for one that is not there."""

    folder: Path

    @cached_property
    def provenances(self) -> dict[str, Provenance]:
        """All artifacts by name, in the order in which they were made."""
        found = {
            path.parent.name: provenance
            for path in self.folder.glob("*/nano2.json")
            if (provenance := read_provenance(path.parent)) is not None
        }
        return dict(sorted(found.items(), key=lambda item: (item[1].created, item[0])))

    def provenance(self, name: str) -> Provenance:
        if name not in self.provenances:
            raise ArtifactError(
                "this part of the chain is not there", where=str(self.folder / name), remedy="run `make demo`"
            )
        return self.provenances[name]

    def metric(self, name: str, metric: str) -> float:
        """A number of an artifact's metrics."""
        value = self.provenance(name).metrics.get(metric)
        if not isinstance(value, int | float):
            raise ArtifactError(
                f"its nano2.json has no number {metric!r}",
                where=str(self.folder / name),
                remedy="make it again with the recipe of this version",
            )
        return float(value)

    def standard_error(self, name: str, metric: str) -> float | None:
        """Of a figure of an evaluation; None for other figures, which have none."""
        if self.provenance(name).kind != "eval":
            return None
        return next(
            (
                stderr
                for task, figure, rule, _, stderr in figures(self.evaluation(name).results)
                if figure_name(task, figure, rule) == metric and stderr is not None and math.isfinite(stderr)
            ),
            None,
        )

    def evaluation(self, name: str) -> StoredEvaluation:
        self.provenance(name)
        return read_evaluation(self.folder / name)

    def logged(self, name: str) -> list[dict[str, Any]]:
        """Lines of its metrics.jsonl; none where it has no such file."""
        path = self.folder / name / METRICS_FILE
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def longest_path(self) -> float:
        """Seconds of the artifacts on the path that took longest: no number of jobs is faster."""

        @cache
        def end(name: str) -> float:
            each = self.provenances[name]
            sources = {Path(item.path).parts[0] for item in each.inputs} & self.provenances.keys()
            return each.seconds + max(map(end, sources), default=0.0)

        return max(map(end, self.provenances), default=0.0)
