"""Lines over what a benchmark goes through, a panel for each figure."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from evals.plots import COLORS, WIDTH, clean_axes, svg_text
from stages.common.results import Cell


def line_panels(
    lines: Mapping[str, Sequence[Mapping[str, Cell]]],
    panels: Mapping[str, str],
    x: str,
    x_label: str,
    salt: str,
) -> str:
    """SVG. lines: rows by name; panels: column to title. x: the column that lies on the axis. A row without a figure is
    no point of its line."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    for number, (key, title) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), number)
        for color, (name, of_line) in enumerate(lines.items()):
            known = [row for row in of_line if row[key] is not None]
            places, values = ([row[column] for row in known] for column in (x, key))
            axes.plot(places, values, "o-", color=COLORS[color % len(COLORS)], markersize=3, label=name)  # type: ignore[arg-type]
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel(x_label, fontsize=8)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8)
        clean_axes(axes)
        if number == 1:
            axes.legend(fontsize=8, frameon=False, loc="best")
    return svg_text(figure, salt)
