"""From finished evaluations to a result file's rows, and from rows to what became of each claim."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from model.artifact.provenance import Provenance, read_provenance
from model.errors import ArtifactError
from stages.common.chain.artifacts import Chain
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
            metrics: Mapping[str, Cell] = (
                {**made.metrics, "seconds": made.seconds}
                if measure.step is None
                else _logged(evaluation, measure.step)
            )
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
    `_tested` (the control has room on both sides) and `_holds` (every seed agrees).

    With `within` instead of differences `_gap`, between the means, and `_spread`, between the control's seeds, both as
    shares of the control's mean; it holds if the gap is within.
    """
    figures: dict[str, float] = {}
    for claim in claims:
        treatment, control = (_by_seed(rows, claim, arm) for arm in (claim.treatment, claim.control))
        sign = 1.0 if claim.better == "higher" else -1.0
        seeds = treatment.keys() | control.keys()
        differences = [
            sign * (_of_seed(treatment, seed) - _of_seed(control, seed)) for seed in seeds - {None} or seeds
        ]
        mean_treatment, mean_control = fmean(treatment.values()), fmean(control.values())
        outcome = {"treatment": mean_treatment, "control": mean_control}
        if claim.within is None:
            outcome |= {"difference": fmean(differences), "smallest_difference": min(differences)}
            holds = min(differences) > 0
        else:
            outcome["gap"] = abs(mean_treatment - mean_control) / abs(mean_control)
            outcome["spread"] = (max(control.values()) - min(control.values())) / abs(mean_control)
            holds = outcome["gap"] <= claim.within
        outcome |= {"tested": claim.floor < mean_control < claim.ceiling, "holds": holds}
        figures |= {f"{claim.name}_{part}": float(value) for part, value in outcome.items()}
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


def _logged(artifact: Path, step: int) -> Row:
    """What an artifact's metrics.jsonl says of a step, on one line or several."""
    found: Row = {}
    for line in Chain(artifact.parent).logged(artifact.name):
        if line["step"] == step:
            found |= line
    return found


def _provenance(directory: Path) -> Provenance:
    provenance = read_provenance(directory)
    if provenance is None:
        raise ArtifactError("this artifact is not there", where=str(directory), remedy="run the experiment")
    return provenance
