import json
from pathlib import Path

import pytest
import torch

from model.errors import PlanRefusedError
from model.hybrid import HybridLM
from stages.prune import throughput
from stages.prune.kept import Shape
from stages.prune.search.blocks import Blocks
from stages.prune.search.budget import Budget
from stages.prune.search.candidates import Candidates
from stages.prune.search.space import name_of
from stages.prune.throughput import Speedups
from tests.model.miniatures import miniature

WHOLE = miniature("M-M*-")
SHAPES = [Shape(5, 40, ffn, 4, 16, 4) for ffn in (56, 48, 40, 32)]
CANDIDATES = Candidates.of(
    SHAPES, [], WHOLE, lambda _: Blocks.of(WHOLE.pattern), Budget(None, None, 64, 1)
).at(5)


def known(folder: Path, *rates: float) -> Speedups:
    """As if the shapes, the largest first, had been measured at these rates, and the model at 100 tokens a second."""
    file = folder / "speeds.json"
    figures = ({"tok_per_s": rate, "speedup": rate / 100} for rate in rates)
    file.write_text(json.dumps(dict(zip(map(name_of, SHAPES), figures, strict=True))))
    return Speedups(file, WHOLE, 1, torch.device("cpu"))


def test_those_that_are_too_slow_are_passed_over(tmp_path: Path) -> None:
    speeds = known(tmp_path, 101, 140, 120, 160)
    assert [each.shape for each in speeds.fast_enough(CANDIDATES, 1.3, 1)] == SHAPES[1:2]
    assert [each.shape for each in speeds.fast_enough(CANDIDATES, 1.3, 2)] == [SHAPES[1], SHAPES[3]]
    assert [each.shape for each in speeds.fast_enough(CANDIDATES, 1.3, 9)] == [SHAPES[1], SHAPES[3]]
    assert [each.shape for each in speeds.fast_enough(CANDIDATES, None, 2)] == SHAPES[:2]
    assert speeds.figures(CANDIDATES[2]) == {"tok_per_s": 120, "speedup": 1.2}


def test_the_fastest_of_those_that_are_too_slow_is_named(tmp_path: Path) -> None:
    speeds = known(tmp_path, 101, 140, 120, 135)
    with pytest.raises(
        PlanRefusedError, match=r"no shape is 1\.5 times .*FFN 48, 4 Mamba heads\) is 1\.40 times"
    ):
        speeds.fast_enough(CANDIDATES, 1.5, 3)
    with pytest.raises(
        PlanRefusedError, match=r"not every shape is 1\.3 times .*FFN 40, 4 Mamba heads\) is 1\.20"
    ):
        speeds.fast_enough(CANDIDATES, 1.3)


def test_rates_are_measured_once_and_remembered(tmp_path: Path) -> None:
    file = tmp_path / "speeds.json"
    first = Speedups(file, WHOLE, 2, torch.device("cpu")).figures(CANDIDATES[0])
    assert first["tok_per_s"] > 0
    assert first["speedup"] > 0
    assert Speedups(file, WHOLE, 2, torch.device("cpu")).figures(CANDIDATES[0]) == first
    assert torch.get_default_dtype() == torch.float32


def test_a_machine_that_becomes_busy_slows_both_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shape is twice as fast as the model, on a machine that is three times as slow from the seventh round on."""
    turns = 0

    def decode(lm: HybridLM, batch: int) -> float:
        nonlocal turns
        turns += 1
        rate = 100.0 if lm.config == WHOLE else 200.0
        return rate if turns < 7 else rate / 3

    monkeypatch.setattr(throughput, "_decode", decode)
    figures = Speedups(tmp_path / "speeds.json", WHOLE, 1, torch.device("cpu")).figures(CANDIDATES[0])
    assert figures["speedup"] == pytest.approx(2)
