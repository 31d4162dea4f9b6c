"""Runs the measurements in order: batch sizes and precisions, kind by kind; then both sides' best settings in turns.

Noise on a machine that is not quite idle only ever makes a run slower, so the fastest of its runs stands for a setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.bench.eval.measure import measure
from stages.bench.eval.sweep import KINDS, REFERENCE, SIDES, WORSE, Kind, Mix, Setting, Side
from stages.bench.isolation import run_isolated
from stages.common.reporter import ProgressBar


@dataclass
class Campaign:
    """Everything that was measured: the seconds of each run, and each side's answers in the reference precision."""

    seconds: dict[tuple[Kind, Setting], list[float]] = field(default_factory=dict)
    answers: dict[tuple[Kind, Side], list[Any]] = field(default_factory=dict)

    def best(self, kind: Kind, side: Side, dtype: str | None = None) -> Setting:
        """The side's fastest setting for a kind, in one precision or in any."""
        settings = [
            setting
            for measured, setting in self.seconds
            if (measured, setting.side) == (kind, side) and dtype in (None, setting.dtype)
        ]
        return min(settings, key=lambda setting: self.fastest(kind, setting))

    def fastest(self, kind: Kind, setting: Setting) -> float:
        """Seconds of the setting's fastest run."""
        return min(self.seconds[kind, setting])


class Measurer:
    """Measures settings and files what comes out in a campaign."""

    def __init__(self, directory: Path, mix: Mix, threads: int, bar: ProgressBar) -> None:
        self.campaign = Campaign()
        self._directory, self._mix, self._threads, self._bar = directory, mix, threads, bar

    def run(self) -> Campaign:
        for rows in self._mix.rows:
            self._measure(
                Setting("nano2", REFERENCE, rows), KINDS if rows == self._mix.rows[0] else ("generate",)
            )
        self._sweep_batches()
        for dtype in self._mix.dtypes[1:]:
            for side in SIDES:
                self._measure_together(
                    {kind: Setting(side, dtype, self.campaign.best(kind, side).batch) for kind in KINDS}
                )
        for _ in range(self._mix.rounds):
            for dtype in self._mix.dtypes:
                for side in SIDES:
                    self._measure_together({kind: self.campaign.best(kind, side, dtype) for kind in KINDS})
        return self.campaign

    def _sweep_batches(self) -> None:
        going_on = list(KINDS)
        for batch in self._mix.batches:
            setting = Setting("hf", REFERENCE, batch)
            self._measure(setting, going_on)
            going_on = [
                kind
                for kind in going_on
                if self.campaign.fastest(kind, setting)
                <= WORSE * self.campaign.fastest(kind, self.campaign.best(kind, "hf"))
            ]

    def _measure_together(self, settings: dict[Kind, Setting]) -> None:
        """Kinds that share a setting share a process."""
        for setting in dict.fromkeys(settings.values()):
            self._measure(setting, [kind for kind in KINDS if settings[kind] == setting])

    def _measure(self, setting: Setting, kinds: Sequence[Kind]) -> None:
        if not kinds:
            return
        self._bar.update(0, now=f"{setting.side}, {setting.dtype}, batch {setting.batch}")
        measured = run_isolated(measure, setting, self._directory, self._mix, kinds, self._threads)
        for kind, answers in measured.items():
            self.campaign.seconds.setdefault((kind, setting), []).append(answers.seconds)
            if setting.dtype == REFERENCE:
                self.campaign.answers.setdefault((kind, setting.side), answers.answers)
        self._bar.update(1)
