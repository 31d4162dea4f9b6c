import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageResult
from stages.data.longqa.config import LongqaConfig
from stages.data.stage import LONGQA

Rows = list[dict[str, Any]]


class Longqa:
    """Runs the stage with a small tokenizer; OUT is `root / name`."""

    def __init__(self, root: Path, tokenizer: Path) -> None:
        self.root = root
        self.tokenizer = tokenizer
        self.reporter = QuietReporter()

    def config(self, *data: Path | str, **settings: Any) -> LongqaConfig:
        defaults = {"tokenizer": self.tokenizer, "min_tokens": 256, "chunk_tokens": 64, "workers": 1}
        return LongqaConfig(data=[str(item) for item in data], **{**defaults, **settings})

    def run(
        self, *data: Path | str, name: str = "out", overwrite: bool = False, **settings: Any
    ) -> tuple[StageResult, Rows]:
        outcome = run_stage(
            LONGQA,
            self.config(*data, **settings),
            out=self.root / name,
            reporter=self.reporter,
            command=["nano2"],
            overwrite=overwrite,
        )
        return outcome.result, self.rows(name)

    def rows(self, name: str = "out") -> Rows:
        plain = self.root / name / "documents.jsonl"
        content = plain.read_bytes() if plain.exists() else gzip.decompress(Path(f"{plain}.gz").read_bytes())
        return [json.loads(line) for line in content.decode().split("\n")[:-1]]


@pytest.fixture
def longqa(tmp_path: Path, tokenizer_directory: Path) -> Longqa:
    return Longqa(tmp_path, tokenizer_directory)


def chronicle(number: int, paragraphs: int) -> str:
    """Prose in which every paragraph says something of its own: names, figures, places."""
    names = (
        "Abel",
        "Berta",
        "Carl",
        "Dora",
        "Emil",
        "Frieda",
        "Gustav",
        "Hanna",
        "Igor",
        "Jutta",
        "Kurt",
        "Lene",
    )
    goods = (
        "barley",
        "copper",
        "flaxseed",
        "herring",
        "lantern oil",
        "mustard",
        "pepper",
        "saddles",
        "timber",
        "wool",
    )
    places = (
        "the north quay",
        "the old mill",
        "a barn by the ford",
        "the bishop's cellar",
        "the lower market",
    )
    text = []
    for index in range(paragraphs):
        pick = number * 7919 + index * 104729
        name, other = names[pick % 12], names[(pick // 12 + 5) % 12]
        good, place = goods[pick // 7 % 10], places[pick // 11 % 5]
        amount, day = 100 + pick % 8999, 1 + pick % 28
        text.append(
            f"On day {day} of the season {number}-{index} {name} brought {amount} sacks of {good} to {place} before dawn. "
            f"The clerk wrote entry {pick % 99991} into the ledger and asked {other} to count them a second time. "
            f"Nobody disputed that {other} had sold {amount + day} of them by evening, for {pick % 997} coins each."
        )
    return "\n\n".join(text) + "\n"
