"""The page and its plots, from figures that the worst user would give."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from evals.plots import budget_plot, heat_map, outcome_plot, pass_plot, score_plot
from evals.report import ReportPart, write_report
from evals.results import interval

NAMES = ["plain", "$x_{$", "<b>&amp;</b>", "語 🎉", "100% \\alpha", "a" * 120]


def texts(svg: str) -> str:
    """All text of a plot; fails unless it is well-formed XML."""
    return " ".join(
        "".join(part.itertext()) for part in ElementTree.fromstring(svg).iter() if part.tag.endswith("text")
    )


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_drawn(name: str) -> None:
    budgets = [
        {"budget": budget, "accuracy": 0.5, "well_formed": 1.0, "thinking_tokens": 3, "answer_tokens": 2}
        for budget in (0, None)
    ]
    plots = [
        score_plot([name], {name: [(0.5, (0.4, 0.6))], "other": [None]}),
        outcome_plot({name: {"right": 0.5, "wrong": 0.5}}),
        budget_plot({name: budgets, "other": budgets}),
        pass_plot({name: {1: 0.5, 2: 0.6}, "other": {1: 0.1}}),
        heat_map({(name, "512"): 0.5}, name, "task", "length"),
    ]
    for plot in plots:
        assert plot.startswith("<svg")
        assert name in texts(plot)


def test_figures_stand_in_the_heat_map_and_gaps_stay_empty() -> None:
    svg = heat_map({("a", "512"): 0.25, ("b", "1024"): 1.0}, "t", "r", "c")
    assert "0.25" in texts(svg)
    assert "1.00" in texts(svg)
    assert "nan" not in texts(svg)


def test_the_same_figures_make_the_same_bytes() -> None:
    plots = [score_plot(["a"], {"m": [(0.5, (0.4, 0.6))]}) for _ in range(2)]
    assert plots[0] == plots[1]


def test_an_evaluation_of_an_older_version_can_be_told_of(tmp_path: Path) -> None:
    results: dict[str, Any] = {
        "results": {"t": {"alias": "t", "acc,none": 0.5, "acc_stderr,none": 0.1}},
        "n-samples": {"t": {"effective": 20}},
    }
    write_report(tmp_path / "report.html", [ReportPart("old", {"seed": "0"}, results, {})])
    page = (tmp_path / "report.html").read_text()
    assert re.search(r"<td>t</td>\s*<td>acc</td>\s*<td class=\"number\">0.5</td>", page)
    assert "0.318 to 0.682" in page  # Wilson's, for the 25 trials that this standard error is worth


@pytest.mark.parametrize(
    ("value", "stderr", "items", "expected"),
    [
        (0.5, None, 20, None),
        (0.5, 0.1, None, None),
        (0.0, 0.0, 20, (0.0, 0.161)),
        (3.0, 0.5, 20, (2.02, 3.98)),
        (0.5, 0.25, 20, (0.15, 0.85)),  # repeated answers to few items: as 4 items
    ],
)
def test_intervals(
    value: float, stderr: float | None, items: int | None, expected: tuple[float, float] | None
) -> None:
    found = interval(value, stderr, items)
    assert found == (expected if expected is None else pytest.approx(expected, abs=2e-3))
