"""The drawings of a chain's report, as SVG text."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from evals.plots import COLORS, WIDTH, clean_axes, plain_text, svg_text
from stages.common.chain.graph import Graph, label

KIND_COLORS = {"model": "#bee3f8", "dataset": "#c6f6d5", "tokenizer": "#fefcbf", "reward": "#fed7e2"}
_OTHER = "#edf2f7"

Point = tuple[float, float | None]
"""A value and its standard error."""


def lineage_plot(graph: Graph) -> str:
    """Boxes for artifacts, arrows from what they were made of."""
    places = graph.places()
    layers = 1 + max(layer for _, layer in places.values())
    columns = 1 + max(column for column, _ in places.values())
    figure = Figure(figsize=(WIDTH, 0.55 * layers + 0.3), layout="constrained")
    axes = figure.add_subplot()
    for path, of_path in graph.parents.items():
        for parent in of_path:
            (x, y), (from_x, from_y) = places[path], places[parent]
            bend = 0.0 if x == from_x and y - from_y == 1 else (0.12 if from_x == x else -0.08)
            axes.annotate(
                "",
                (x, -y + 0.25),
                (from_x, -from_y - 0.25),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "#a0aec0",
                    "linewidth": 0.8,
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )
    for path, (x, y) in places.items():
        node = graph.nodes[path]
        stage = f"\n{node.stage}" if node.stage else ""
        axes.text(
            x,
            -y,
            plain_text(label(node)) + stage,
            ha="center",
            va="center",
            fontsize=7,
            bbox={
                "boxstyle": "round,pad=0.3",
                "facecolor": KIND_COLORS.get(node.kind, _OTHER),
                "edgecolor": "#718096",
            },
        )
    axes.set_xlim(-0.6, max(columns - 0.4, 1.4))
    axes.set_ylim(-layers + 0.4, 0.6)
    axes.set_axis_off()
    return svg_text(figure, "lineage")


def score_lines(names: Sequence[str], scores: Mapping[str, Sequence[Point]]) -> str:
    """Shares along the chain, with bars of 1.96 standard errors; one line a kind of items."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for color, (name, points) in zip(COLORS, scores.items(), strict=False):
        axes.errorbar(
            range(len(names)),
            [value for value, _ in points],
            [1.96 * (error or 0.0) for _, error in points],
            color=color,
            marker="o",
            markersize=4,
            capsize=3,
            label=plain_text(name),
        )
    axes.set_xticks(range(len(names)), map(plain_text, names), fontsize=8)
    axes.set_ylim(0, 1)
    axes.tick_params(labelsize=8)
    clean_axes(axes)
    axes.legend(fontsize=8, frameon=False)
    return svg_text(figure, "chain scores")


def curves(logs: Mapping[str, Sequence[Mapping[str, Any]]], key: str, title: str) -> str:
    """Small plots side by side, one a stage: a logged figure over the steps."""
    across = 4
    rows = -(-len(logs) // across)
    figure = Figure(figsize=(WIDTH, 1.7 * rows + 0.2), layout="constrained")
    for number, (name, lines) in enumerate(logs.items(), start=1):
        axes = figure.add_subplot(rows, across, number)
        known = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
        steps, values = [step for step, _ in known], [value for _, value in known]
        axes.plot(steps, values, color=COLORS[0], linewidth=1, marker=".", markersize=2)
        axes.set_title(plain_text(name), fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
        clean_axes(axes)
    figure.supylabel(title, fontsize=8)
    return svg_text(figure, f"curves {key}")


def time_bars(seconds: Mapping[str, float], rates: Mapping[str, float | None]) -> str:
    """Seconds of each artifact, with the tokens a second of those that trained."""
    figure = Figure(figsize=(WIDTH, 0.22 * len(seconds) + 0.6), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(seconds)), list(seconds.values()), color=COLORS[0])
    for place, (name, value) in enumerate(seconds.items()):
        rate = rates.get(name)
        told = f" {value:.0f} s" + (f", {rate:,.0f} tokens/s" if rate else "")
        axes.text(value, place, told, va="center", fontsize=7)
    axes.set_yticks(range(len(seconds)), map(plain_text, seconds), fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(seconds.values()))
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    return svg_text(figure, "seconds")
