"""Runs the measurements in order: every point once, the sides in turns; each side's best two again; then a look inside.

Noise on a machine that is not quite idle comes in bursts. Taking turns spreads a burst over both sides, and the median over
all steps drops it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Concatenate, ParamSpec, TypeVar

from stages.bench.agreement import check_same_start
from stages.bench.isolation import ProcessEndedError, run_isolated
from stages.bench.train.measure import Examined, Measured, Unfit, examine_point, measure_point
from stages.bench.train.points import Point, Side, in_turns, other_attention
from stages.bench.train.sides import Job
from stages.common.reporter import ProgressBar

FINALISTS = 2
"""Points of a side that are measured again: of two that are nearly as fast, one measurement may name the wrong one."""

Given = ParamSpec("Given")
T = TypeVar("T")


@dataclass
class Record:
    """What was measured of one point: `seconds` of every timed step, `peak_bytes` the largest of its processes. reason: why
    it was not, where memory ran out."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    loss: float = 0.0
    gradient_norm: float = 0.0
    reason: str = ""

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
        self.loss, self.gradient_norm = measured.loss, measured.gradient_norm


@dataclass
class Campaign:
    """Everything that was measured."""

    job: Job
    records: dict[Point, Record] = field(default_factory=dict)
    examined: dict[Side, Examined] = field(default_factory=dict)

    def best(self, side: Side) -> Point | None:
        """The side's fastest point among those that were measured most often; None where none fits.

        Of many points measured once one is fast by luck, and would beat the one that was chosen and measured again.
        """
        return next(iter(self.ranked(side)), None)

    def ranked(self, side: Side) -> list[Point]:
        """The side's points that fit, the best first."""
        fitting = [point for point, record in self.records.items() if point.side == side and record.fits]
        return sorted(
            fitting, key=lambda point: (-len(self.records[point].seconds), self.records[point].step_seconds)
        )

    def winners(self) -> list[Point]:
        """Each side's best point."""
        sides: tuple[Side, ...] = ("nano2", "hf")
        return [best for side in sides if (best := self.best(side)) is not None]


def count_measurements(ours: Sequence[Point], theirs: Sequence[Point], rounds: int) -> int:
    """How many `run_campaign` makes, where every point fits."""
    attention = bool(theirs)
    again = min(FINALISTS, len(ours)) + min(FINALISTS, len(theirs) + attention)
    return len(ours) + len(theirs) + attention + again * rounds + 1 + bool(theirs)


def run_campaign(
    campaign: Campaign,
    ours: Sequence[Point],
    theirs: Sequence[Point],
    *,
    rounds: int,
    traces: Path | None,
    bar: ProgressBar,
) -> None:
    """traces: where to write `trace-SIDE.json` of each side's best point. Nano2Error if the sides do not begin alike."""
    for point in in_turns(ours, theirs):
        _measure(campaign, point, bar)
    if (best := campaign.best("hf")) is not None:
        _measure(campaign, other_attention(best), bar)
    finalists = in_turns(*(campaign.ranked(side)[:FINALISTS] for side in ("nano2", "hf")))
    for _ in range(rounds):
        for point in finalists:
            _measure(campaign, point, bar)
    for point in campaign.winners():
        bar.update(0, now=f"inside of {point}")
        trace = traces and traces / f"trace-{point.side}.json"
        examined = _attempt(examine_point, campaign.job, point, trace)
        if isinstance(examined, Examined):
            campaign.examined[point.side] = examined
        bar.update(1)


def _measure(campaign: Campaign, point: Point, bar: ProgressBar) -> None:
    bar.update(0, now=str(point))
    campaign.records.setdefault(point, Record()).add(_attempt(measure_point, campaign.job, point))
    _check_start(campaign, point)
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
    except ProcessEndedError as error:
        if error.code != -9:
            raise
        return Unfit("its process was killed: out of memory, as a rule")


def _check_start(campaign: Campaign, point: Point) -> None:
    """Against the first point that fits: all of them train the same weights on the same rows."""
    first = next((other for other, record in campaign.records.items() if record.fits), None)
    if first is None or not campaign.records[point].fits:
        return
    mine, its = campaign.records[first], campaign.records[point]
    halves = [precision for precision in (first.products, point.products) if precision != "float32"]
    check_same_start(
        (mine.loss, mine.gradient_norm),
        (its.loss, its.gradient_norm),
        halves[0] if halves else "float32",
        f"{first} and {point}",
    )
