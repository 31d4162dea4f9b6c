"""Runs the measurements in order: every point once, the sides in turns; each side's best two again; then a look inside.

Noise on a machine that is not quite idle comes in bursts. Taking turns spreads a burst over both sides, and the median over
all steps drops it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Concatenate, ParamSpec, TypeVar

from model.errors import Nano2Error
from stages.bench.agreement import LOSS_TOLERANCE, difference
from stages.bench.isolation import ProcessEndedError, run_isolated
from stages.bench.train.config import TrainBenchConfig
from stages.bench.train.job import Job
from stages.bench.train.measure import Examined, Measured, Unfit, examine_point, measure_point
from stages.bench.train.points import Point, Side, in_turns, other_attentions, our_points, shown_beside
from stages.common.reporter import ProgressBar

FINALISTS = 2
"""Points of a side that are measured again: of two that are nearly as fast, one measurement may name the wrong one."""

Given = ParamSpec("Given")
T = TypeVar("T")


@dataclass
class Record:
    """What was measured of one point: `seconds` of every timed step, `peak_bytes` the largest of its processes, and
    `reserved_bytes` with what PyTorch held besides, on a GPU. reason: why it does not count: memory ran out, or it began
    otherwise than the first point."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    loss: float = 0.0
    gradient_norm: float = 0.0
    reserved_bytes: int = 0
    reason: str = ""
    differs: bool = False

    @property
    def fits(self) -> bool:
        return not self.reason

    @property
    def step_seconds(self) -> float:
        return median(self.seconds)

    def add(self, measured: Measured | Unfit) -> None:
        if isinstance(measured, Unfit):
            self.reason = measured.reason
            return
        self.seconds += measured.seconds
        self.peak_bytes = max(self.peak_bytes, measured.peak_bytes)
        self.reserved_bytes = max(self.reserved_bytes, measured.reserved_bytes)
        self.loss, self.gradient_norm = measured.loss, measured.gradient_norm


@dataclass
class Campaign:
    """Everything that was measured."""

    job: Job
    records: dict[Point, Record] = field(default_factory=dict)
    examined: dict[Point, Examined] = field(default_factory=dict)

    @property
    def first(self) -> Point | None:
        """The first point that fits."""
        return next((point for point, record in self.records.items() if record.fits), None)

    def best(self, side: Side, precision: str | None = None) -> Point | None:
        """The side's fastest point among those that were measured most often, in one precision or in any; None where none
        fits.

        Of many points measured once one is fast by luck, and would beat the one that was chosen and measured again.
        """
        return next(iter(self.ranked(side, precision)), None)

    def ranked(self, side: Side, precision: str | None = None) -> list[Point]:
        """The side's points that fit, the best first; not those that only show what something costs."""
        fitting = [
            point
            for point, record in self.records.items()
            if point.side == side and precision in (None, point.precision) and point.competes and record.fits
        ]
        return sorted(
            fitting, key=lambda point: (-len(self.records[point].seconds), self.records[point].step_seconds)
        )

    def winners(self) -> list[Point]:
        """Our best point in each precision, and the best of hf in any."""
        ours = dict.fromkeys(point.precision for point in self.records if point.side == "nano2")
        best = [*(self.best("nano2", precision) for precision in ours), self.best("hf")]
        return [point for point in best if point is not None]


def count_measurements(
    config: TrainBenchConfig, ours: Sequence[Point], theirs: Sequence[Point], *, flash: bool
) -> int:
    """How many `run_campaign` makes, where every point fits, and none of what is shown beside is among the best."""
    attentions = len(other_attentions(theirs[0], flash=flash)) if theirs else 0
    precisions = len(config.precision)
    again = precisions * min(FINALISTS, len(ours) // precisions) + min(FINALISTS, len(theirs) + attentions)
    beside = shown_beside(config, ours)
    costs = sum(not point.competes for point in beside)
    sweep = len(ours) + len(theirs) + attentions + costs
    return sweep + config.rounds * (again + len(beside)) + precisions + bool(theirs)


def run_campaign(
    campaign: Campaign,
    config: TrainBenchConfig,
    theirs: Sequence[Point],
    *,
    flash: bool,
    traces: Path | None,
    bar: ProgressBar,
    tell: Callable[[], None],
) -> None:
    """All of our points, and these of hf.

    flash: can hf have the flash_attn package? traces: where to write the trace of each winner. tell: called behind each
    measurement.

    Nano2Error if no point of a side begins as our first one does, or one of ours does not.
    """

    def measure(point: Point) -> None:
        _measure(campaign, point, bar)
        tell()

    for point in in_turns(our_points(config), theirs):
        measure(point)
    _check_starts(campaign)
    if (best := campaign.best("hf")) is not None:
        for point in other_attentions(best, flash=flash):
            measure(point)
    beside = shown_beside(config, campaign.ranked("nano2"))
    for point in beside:
        if not point.competes:
            measure(point)
    _check_starts(campaign)
    ours = [campaign.ranked("nano2", precision)[:FINALISTS] for precision in config.precision]
    finalists = in_turns(*ours, campaign.ranked("hf")[:FINALISTS])
    again = dict.fromkeys([*finalists, *(point for point in beside if campaign.records[point].fits)])
    for _ in range(config.rounds):
        for point in again:
            measure(point)
    for point in campaign.winners():
        bar.update(0, now=f"inside of {point}")
        trace = traces and traces / f"trace-{trace_name(point)}.json"
        examined = _attempt(examine_point, campaign.job, point, trace)
        if isinstance(examined, Examined):
            campaign.examined[point] = examined
        bar.update(1)
        tell()


def trace_name(winner: Point) -> str:
    """Of the trace of a winner: hf, or our precision."""
    return winner.side if winner.side == "hf" else f"nano2-{winner.precision}"


def _measure(campaign: Campaign, point: Point, bar: ProgressBar) -> None:
    bar.update(0, now=str(point))
    record = campaign.records.setdefault(point, Record())
    record.add(_attempt(measure_point, campaign.job, point))
    first = campaign.first
    if record.fits and first is not None:
        record.reason = _other_start(campaign, first, point)
        record.differs = bool(record.reason)
    bar.update(1)


def _attempt(
    function: Callable[Concatenate[Job, Point, Given], T | Unfit],
    job: Job,
    point: Point,
    *args: Given.args,
    **kwargs: Given.kwargs,
) -> T | Unfit:
    try:
        return run_isolated(function, job, point, *args, **kwargs)
    except Nano2Error as error:
        if isinstance(error, ProcessEndedError) and error.code == -9:
            return Unfit("its process was killed: out of memory, as a rule")
        if point.side == "hf":  # one of many ways, of which others may do
            return Unfit(f"it failed: {error.what}")
        raise


def _other_start(campaign: Campaign, first: Point, point: Point) -> str:
    """How a point begins otherwise than the first one: all of them train the same weights on the same rows."""
    mine, its = campaign.records[first], campaign.records[point]
    coarsest = max((first.products, point.products), key=lambda precision: LOSS_TOLERANCE[precision])
    different = difference((mine.loss, mine.gradient_norm), (its.loss, its.gradient_norm), coarsest)
    return different and f"it differs from {first} on the same weights: {different}"


def _check_starts(campaign: Campaign) -> None:
    """A precision or attention of transformers may be too coarse, which is a row with the reason; all of them together, or
    one of ours, are an error."""
    for side in ("nano2", "hf"):
        records = {point: record for point, record in campaign.records.items() if point.side == side}
        differing = {point: record for point, record in records.items() if record.differs}
        if differing and (side == "nano2" or not any(record.fits for record in records.values())):
            point, record = next(iter(differing.items()))
            raise Nano2Error(
                record.reason,
                where=str(point),
                remedy="find the layer with nano2 verify; speeds of different models say nothing",
            )
