"""From finished evaluations to a result file's rows, and from rows to what became of each claim."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from model.artifact.provenance import Provenance, read_provenance
from model.errors import ArtifactError
from stages.common.experiments.spec import SEED, Claim, Experiment, filled
from stages.common.results import TABLE, Cell

Row = dict[str, Cell]


def rows_of(experiment: Experiment, folder: Path) -> list[Row]:
    """One row a measure and seed: table, arm, seed, the artifact's content hash, the raw figures."""
    rows: list[Row] = []
    for measure in experiment.measures:
        once = SEED not in measure.artifact and SEED not in measure.evaluation
        for seed in experiment.seeds[:1] if once else experiment.seeds:
            artifact = _provenance(folder / filled(measure.artifact, seed))
            evaluation = folder / filled(measure.evaluation, seed)
            made = _provenance(evaluation)
            metrics = {**made.metrics, "seconds": made.seconds}
            figures: Row = {}
            for column, name in measure.figures.items():
                if name not in metrics:
                    raise ArtifactError(
                        f"it measured no {name!r}",
                        where=str(evaluation),
                        remedy=f"choose of {', '.join(metrics)}",
                    )
                figures[column] = metrics[name]
            rows.append(
                {
                    TABLE: measure.table,
                    "arm": measure.arm,
                    "seed": None if once else seed,
                    "artifact": artifact.content_hash,
                    **figures,
                }
            )
    return rows


def device_of(experiment: Experiment, folder: Path) -> Mapping[str, str | int]:
    """What most of the runs were made on: text and tasks are prepared on the CPU wherever models are trained."""
    devices = [_provenance(folder / name).device for name in experiment.made()]
    most, _ = Counter(tuple(device.items()) for device in devices).most_common(1)[0]
    return dict(most)


def outcomes(claims: Sequence[Claim], rows: Sequence[Row]) -> dict[str, float]:
    """For each claim: both means, the mean and the smallest difference over the seeds (in the claim's direction),
    `_tested` (the control has room on both sides) and `_holds` (every seed agrees)."""
    figures: dict[str, float] = {}
    for claim in claims:
        treatment, control = (_by_seed(rows, claim, arm) for arm in (claim.treatment, claim.control))
        sign = 1.0 if claim.better == "higher" else -1.0
        seeds = treatment.keys() | control.keys()
        differences = [
            sign * (_of_seed(treatment, seed) - _of_seed(control, seed)) for seed in seeds - {None} or seeds
        ]
        mean_control = fmean(control.values())
        figures |= {
            f"{claim.name}_treatment": fmean(treatment.values()),
            f"{claim.name}_control": mean_control,
            f"{claim.name}_difference": fmean(differences),
            f"{claim.name}_smallest_difference": min(differences),
            f"{claim.name}_tested": float(claim.floor < mean_control < claim.ceiling),
            f"{claim.name}_holds": float(min(differences) > 0),
        }
    return figures


def _by_seed(rows: Sequence[Row], claim: Claim, arm: str) -> dict[Cell, float]:
    found: dict[Cell, float] = {}
    for row in rows:
        if row[TABLE] == claim.table and row["arm"] == arm:
            value = row[claim.figure]
            assert isinstance(value, int | float)
            found[row["seed"]] = float(value)
    return found


def _of_seed(figures: dict[Cell, float], seed: Cell) -> float:
    """An arm that was made once for all stands beside each seed of the other."""
    return figures[seed] if seed in figures else figures[None]


def _provenance(directory: Path) -> Provenance:
    provenance = read_provenance(directory)
    if provenance is None:
        raise ArtifactError("this artifact is not there", where=str(directory), remedy="run the experiment")
    return provenance
