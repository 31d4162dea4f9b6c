"""Runs the measurements in order: first every setting once, then each side's best ones again, in turns.

Noise on a machine that is not quite idle comes in bursts. Taking turns spreads a burst over both sides, and the median over
all steps drops it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import ParamSpec, TypeVar

from stages.bench.agreement import check_same_start
from stages.bench.cpu.measure import measure_decoding, measure_matmul, measure_training
from stages.bench.cpu.sweep import SIDES, DecodeSetting, Side, Sweep, TrainSetting
from stages.bench.isolation import run_isolated
from stages.common.reporter import ProgressBar

DECODE_REPEATS = 2
MATMUL_REPEATS = 10

Given = ParamSpec("Given")
Measured = TypeVar("Measured")


@dataclass
class TrainRecord:
    """What was measured of one setting. `seconds` of every timed step, `peak_bytes` the largest of its processes."""

    setting: TrainSetting
    seconds: list[float]
    peak_bytes: int
    loss: float
    gradient_norm: float

    @property
    def tok_per_s(self) -> float:
        return self.setting.tokens / median(self.seconds)


@dataclass
class DecodeRecord:
    """What was measured of one setting. `seconds` of every run, `tokens` the new ones."""

    setting: DecodeSetting
    seconds: list[float]
    tokens: list[int]

    @property
    def tok_per_s(self) -> float:
        return len(self.tokens) / median(self.seconds)


@dataclass
class Campaign:
    """Everything that was measured. `matmul`: FLOP/s by precision and by library and shape."""

    training: dict[TrainSetting, TrainRecord]
    decoding: dict[DecodeSetting, DecodeRecord]
    matmul: dict[str, dict[str, float]]

    def best_training(self, side: Side, length: int, precision: str | None = None) -> TrainRecord:
        """The side's fastest setting at a length, in one precision or in any."""
        candidates = [
            record
            for setting, record in self.training.items()
            if (setting.side, setting.length) == (side, length) and precision in (None, setting.precision)
        ]
        return max(candidates, key=lambda record: record.tok_per_s)

    def best_decoding(self, side: Side, precision: str | None = None) -> DecodeRecord:
        """The side's fastest way to decode, in one precision or in any."""
        candidates = [
            record
            for setting, record in self.decoding.items()
            if setting.side == side and precision in (None, setting.precision)
        ]
        return max(candidates, key=lambda record: record.tok_per_s)

    def matmul_rate(self, precision: str, library: str = "") -> float:
        """FLOP/s of the fastest matrix product measured, by one library ("torch.mm", "linear") or by any."""
        return max(rate for name, rate in self.matmul[precision].items() if name.startswith(library))


def start_campaign(sweep: Sweep, threads: int, bar: ProgressBar) -> Campaign:
    """A campaign that knows the machine's matrix products, one measurement for each of the sweep's precisions."""
    matmul = {}
    for precision in sweep.precisions:
        bar.update(0, now=precision)
        matmul[precision] = _measured(bar, measure_matmul, precision, MATMUL_REPEATS, threads)
    return Campaign({}, {}, matmul)


def run_campaign(campaign: Campaign, sweep: Sweep, threads: int, bar: ProgressBar) -> None:
    """Measure training and decoding, `count_measurements(sweep)` times.

    Raises Nano2Error if the two sides' losses or gradient norms differ, or a measurement fails.
    """
    for length in sweep.lengths:
        for precision in sweep.train_precisions:
            _measure_training(campaign, sweep.training(length, precision), sweep.steps, threads, bar)
            check_agreement(campaign)
    for precision in sweep.precisions:
        _measure_decoding(campaign, sweep.decoding(precision), sweep.new_tokens, threads, bar)

    finalists = [
        campaign.best_training(side, length, precision).setting
        for length in sweep.lengths
        for precision in sweep.train_precisions
        for side in SIDES
    ]
    decode_finalists = [
        campaign.best_decoding(side, precision).setting for precision in sweep.precisions for side in SIDES
    ]
    for _ in range(sweep.rounds):
        _measure_training(campaign, finalists, sweep.steps, threads, bar)
        _measure_decoding(campaign, decode_finalists, sweep.new_tokens, threads, bar)


def count_measurements(sweep: Sweep) -> int:
    """How many measurements `run_campaign` makes."""
    settings = sum(len(sweep.training(length, p)) for length in sweep.lengths for p in sweep.train_precisions)
    settings += sum(len(sweep.decoding(p)) for p in sweep.precisions)
    finalists = len(sweep.train_precisions) * len(sweep.lengths) + len(sweep.precisions)
    return settings + len(SIDES) * finalists * sweep.rounds


def _measured(
    bar: ProgressBar, function: Callable[Given, Measured], *args: Given.args, **kwargs: Given.kwargs
) -> Measured:
    result = run_isolated(function, *args, **kwargs)
    bar.update(1)
    return result


def _measure_training(
    campaign: Campaign, settings: list[TrainSetting], steps: int, threads: int, bar: ProgressBar
) -> None:
    for setting in settings:
        bar.update(0, now=f"{setting.side}, {setting.batch} x {setting.length} tokens, {setting.precision}")
        measured = _measured(bar, measure_training, setting, steps, threads)
        record = campaign.training.setdefault(
            setting, TrainRecord(setting, [], 0, measured.loss, measured.gradient_norm)
        )
        record.seconds += measured.seconds
        record.peak_bytes = max(record.peak_bytes, measured.peak_bytes)


def _measure_decoding(
    campaign: Campaign, settings: list[DecodeSetting], new_tokens: int, threads: int, bar: ProgressBar
) -> None:
    for setting in settings:
        bar.update(0, now=f"{setting.side}, decode by {setting.method}, {setting.precision}")
        measured = _measured(bar, measure_decoding, setting, new_tokens, DECODE_REPEATS, threads)
        record = campaign.decoding.setdefault(setting, DecodeRecord(setting, [], measured.tokens))
        record.seconds += measured.seconds


def check_agreement(campaign: Campaign) -> None:
    """The same weights and tokens must give both sides the same first loss and gradient norm.

    Raises Nano2Error naming the setting that differs.
    """
    ours = {
        (setting.length, setting.batch, setting.precision): record
        for setting, record in campaign.training.items()
        if setting.side == "nano2"
    }
    for setting, theirs in campaign.training.items():
        mine = ours[setting.length, setting.batch, setting.precision]
        check_same_start(
            (mine.loss, mine.gradient_norm),
            (theirs.loss, theirs.gradient_norm),
            setting.precision,
            f"{setting}",
        )
