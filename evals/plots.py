"""The plots of a report, as SVG text that stands by itself in a page and is the same bytes for the same figures."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evals.answers import Outcome

WIDTH = 9.0  # inches, at 72 points each
COLORS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#4a5568")
OUTCOME_COLORS = {
    Outcome.RIGHT: "#2f855a",
    Outcome.WRONG: "#c53030",
    Outcome.MALFORMED: "#dd6b20",
    Outcome.UNFINISHED: "#a0aec0",
}

Bar = tuple[float, tuple[float, float] | None]
"""A value and its interval."""

Row = Mapping[str, Any]


def score_plot(tasks: Sequence[str], bars: Mapping[str, Sequence[Bar | None]]) -> str:
    """One group of bars a task, one bar a part of the report (name to its bars, in the order of the tasks)."""
    height = 0.8 / len(bars)
    figure, axes = _figure(0.9 + 0.28 * len(tasks) * max(1, len(bars) * 0.7))
    for number, (name, of_part) in enumerate(bars.items()):
        for place, bar in enumerate(of_part):
            if bar is None:
                continue
            y, (value, interval) = place + (number + 0.5) * height - 0.4, bar
            axes.barh(
                y,
                value,
                height * 0.9,
                color=COLORS[number % len(COLORS)],
                label=plain_text(name) if place == 0 else None,
            )
            if interval:
                low, high = min(interval[0], value), max(interval[1], value)
                axes.errorbar(
                    value, y, xerr=[[value - low], [high - value]], color="#1a202c", capsize=2, linewidth=1
                )
    axes.set_yticks(range(len(tasks)), map(plain_text, tasks))
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.0, *(bar[0] for of_part in bars.values() for bar in of_part if bar)))
    _legend(axes, len(bars))
    return svg_text(figure, "scores")


def outcome_plot(shares: Mapping[str, Mapping[str, float]]) -> str:
    """A bar for each name, in the four colours of the outcomes."""
    figure, axes = _figure(1.0 + 0.3 * len(shares))
    for place, of_name in enumerate(shares.values()):
        left = 0.0
        for outcome, color in OUTCOME_COLORS.items():
            share = of_name.get(outcome, 0.0)
            axes.barh(place, share, left=left, color=color, label=str(outcome) if place == 0 else None)
            left += share
    axes.set_yticks(range(len(shares)), map(plain_text, shares))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(fontsize=8, frameon=False, ncol=4, loc="lower left", bbox_to_anchor=(0, 1))
    return svg_text(figure, "outcomes")


def budget_plot(rows: Mapping[str, Sequence[Row]]) -> str:
    """Four curves over the thinking budget, a line for each name; no budget stands at the right end."""
    panels = {
        "accuracy": "accuracy",
        "well_formed": "well-formed",
        "thinking_tokens": "thinking tokens",
        "answer_tokens": "answer tokens",
    }
    budgets = sorted(
        {row["budget"] for of_name in rows.values() for row in of_name if row["budget"] is not None}
    )
    places = {budget: place for place, budget in enumerate([*budgets, None])}
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    for number, (key, title) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(2, 2, number)
        for color, (name, of_name) in enumerate(rows.items()):
            known = [row for row in of_name if row.get(key) is not None]
            x = [places[row["budget"]] for row in known]
            y = [row[key] for row in known]
            errors = [1.96 * (row.get("stderr") or 0.0) for row in known] if key == "accuracy" else None
            axes.errorbar(
                x,
                y,
                errors,
                color=COLORS[color % len(COLORS)],
                marker="o",
                markersize=3,
                capsize=2,
                label=plain_text(name),
            )
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xticks(
            range(len(places)), ["none" if budget is None else str(budget) for budget in places], fontsize=8
        )
        axes.tick_params(axis="y", labelsize=8)
        axes.set_ylim(bottom=0)
        clean_axes(axes)
        if number == 1:
            _legend(axes, len(rows))
    return svg_text(figure, "budgets")


def pass_plot(curves: Mapping[str, Mapping[int, float]]) -> str:
    """pass@k over k, a line for each name."""
    figure, axes = _figure(2.6)
    for color, (name, of_name) in enumerate(curves.items()):
        axes.plot(
            list(of_name),
            list(of_name.values()),
            color=COLORS[color % len(COLORS)],
            marker="o",
            markersize=3,
            label=plain_text(name),
        )
    axes.set_xscale("log", base=2)
    ks = sorted({k for of_name in curves.values() for k in of_name})
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set_xlabel("k")
    axes.set_ylabel("pass@k")
    axes.set_ylim(0, 1)
    _legend(axes, 2)
    return svg_text(figure, "pass")


def heat_map(cells: Mapping[tuple[str, str], float], title: str, rows_title: str, columns_title: str) -> str:
    """Shares from 0 (red) to 1 (green), with the number in each cell; (row, column) to share."""
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    grid = [[cells.get((row, column), float("nan")) for column in columns] for row in rows]
    figure, axes = _figure(0.9 + 0.3 * len(rows), 1.8 + 0.75 * len(columns))
    axes.imshow(grid, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    for place, line in enumerate(grid):
        for column, value in enumerate(line):
            if value == value:
                axes.text(column, place, f"{value:.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(rows)), map(plain_text, rows), fontsize=8)
    axes.set_xlabel(columns_title, fontsize=8)
    axes.set_ylabel(rows_title, fontsize=8)
    axes.set_title(plain_text(title), fontsize=9, loc="left")
    return svg_text(figure, f"heat {title}")


def _figure(height: float, width: float = WIDTH) -> tuple[Figure, Any]:
    figure = Figure(figsize=(min(width, WIDTH), height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=8)
    clean_axes(axes)
    return figure, axes


def clean_axes(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def plain_text(text: str) -> str:
    """A name is no formula."""
    return text.replace("$", r"\$")


def _legend(axes: Any, names: int) -> None:
    if names > 1:
        axes.legend(fontsize=8, frameon=False, loc="best")


def svg_text(figure: Figure, salt: str) -> str:
    """salt: what tells the ids of this plot from those of the others in a page."""
    file = io.StringIO()
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that only the reader's fonts have
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
