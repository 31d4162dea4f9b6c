"""`nano2 data synth`: problems in three files of chat jsonl."""

import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from model.errors import UsageError
from stages.common.reporter import ProgressBar
from stages.common.stage import StageContext, StageResult
from stages.data.synth.config import SynthConfig
from stages.data.synth.dice import Dice
from stages.data.synth.drawing import Drawer, Source, apportion, schedule, sources
from stages.data.synth.pairs import Pairing
from stages.data.synth.problem import FLAWED, Split, Style, row
from stages.data.synth.verification import verify

_MOST_FAILURES = 200


def run(config: SynthConfig, context: StageContext) -> StageResult:
    """Draws, writes down, verifies and saves one row after another."""
    chosen = sources(config)
    wanted = {Split.TRAIN: config.train, Split.DEV: config.dev, Split.TEST: config.test}
    maker = _Maker(config, chosen)
    with context.reporter.progress("making problems", total=sum(wanted.values()), unit="row") as bar:
        for split, rows in wanted.items():
            maker.write(context.staging / f"{split}.jsonl", split, rows, bar)
    return maker.result()


@dataclass
class _Maker:
    config: SynthConfig
    sources: list[Source]
    written: Counter[tuple[Split, int]] = field(
        default_factory=Counter
    )  # rows by split and number of the source
    facts: Counter[str] = field(default_factory=Counter)

    def write(self, path: Path, split: Split, rows: int, bar: ProgressBar) -> None:
        drawer = Drawer(split, self.config.seed)
        counts = apportion(rows, self.sources)
        order = schedule(counts, Dice("nano2 data synth", self.config.seed, split, "order"))
        pairing = Pairing() if self.config.pairs else None
        with ExitStack() as files:
            file = files.enter_context(_open(path))
            pairs = files.enter_context(_open(path.with_name(f"{split}-pairs.jsonl"))) if pairing else None
            for number in order:
                line = self._row(self.sources[number], drawer)
                verify(line)
                _write(file, line)
                self._count(split, number, line)
                if pairing and pairs and (pair := pairing.of(line)):
                    _write(pairs, pair)
                    self.facts[f"{split}_pairs"] += 1
                bar.update(1)

    def _row(self, source: Source, drawer: Drawer) -> dict[str, Any]:
        """The next row: problems whose dialogue failed are passed over."""
        dice = drawer.dice(source)
        for _ in range(_MOST_FAILURES):
            identity, problem = drawer.draw(source)
            held_out = drawer.split is not Split.TRAIN and dice.chance(self.config.held_out)
            trace = dice.choice(self.config.traces)
            flawed = self._flawed(drawer.split, dice)
            sample = problem.write(dice, Style(trace, held_out, self.config.error_rate, flawed))
            if sample is not None:
                thinking = dice.chance(self.config.thinking)
                facts = {"level": source.level, "split": str(drawer.split), "held_out_wording": held_out}
                return row(source.family, identity, sample, thinking=thinking, facts=facts)
            self.facts["dialogues_thrown_away"] += 1
        raise UsageError(
            f"{_MOST_FAILURES} dialogues of the family {source.family.name!r} in a row failed at level {source.level}",
            where="error_rate",
            remedy="lower it, or ask for lower levels",
        )

    def _flawed(self, split: Split, dice: Dice) -> bool:
        """Nothing is drawn where no flaws are asked for, so that they change no other data."""
        return self.config.flawed > 0 and split is Split.TRAIN and dice.chance(self.config.flawed)

    def _count(self, split: Split, number: int, line: dict[str, Any]) -> None:
        self.written[split, number] += 1
        self.facts["thinking_rows"] += line["thinking"]
        self.facts["held_out_wordings"] += line["metadata"]["held_out_wording"]
        self.facts["flawed_rows"] += line["metadata"].get(FLAWED, False)

    def result(self) -> StageResult:
        table: list[dict[str, Any]] = [
            {
                "family": source.family.name,
                "kind": source.family.kind,
                "level": source.level,
                **{str(split): self.written[split, number] for split in Split},
            }
            for number, source in enumerate(self.sources)
        ]
        totals = {f"{split}_rows": sum(int(item[split]) for item in table) for split in Split}
        kinds = {f"{source.family.kind}_rows": 0 for source in self.sources}
        for (_, number), count in self.written.items():
            kinds[f"{self.sources[number].family.kind}_rows"] += count
        dialogues = {}
        if "tools_rows" in kinds:
            thrown = self.facts["dialogues_thrown_away"]
            dialogues = {"dialogues_tried": kinds["tools_rows"] + thrown, "dialogues_thrown_away": thrown}
        names = ["thinking_rows", "held_out_wordings"]
        names += ["flawed_rows"] if self.config.flawed else []
        names += [f"{split}_pairs" for split in Split] if self.config.pairs else []
        counts = {name: self.facts[name] for name in names}
        return StageResult(metrics={**totals, **kinds, **counts, **dialogues}, rows=table)


def _open(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", newline="\n")


def _write(file: TextIO, line: dict[str, Any]) -> None:
    file.write(json.dumps(line, ensure_ascii=False, separators=(", ", ": ")) + "\n")
