"""The grid as a plot: throughput and the times of a token, over the clients."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from evals.plots import COLORS, WIDTH, clean_axes, svg_text
from stages.bench.serve.summary import Row

PANELS = {
    "output_tok_per_s": "output tokens per second",
    "ttft_p50_ms": "time to first token, ms, median",
    "itl_mean_ms": "time between tokens, ms, mean",
}


def load_plot(rows: Sequence[Row]) -> str:
    """SVG; a line for each isl and osl."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(f"isl {row['isl']}, osl {row['osl']}", []).append(row)
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    for number, (key, title) in enumerate(PANELS.items(), start=1):
        axes = figure.add_subplot(1, len(PANELS), number)
        for color, (name, of_line) in enumerate(lines.items()):
            known = [row for row in of_line if row[key] is not None]
            clients, values = ([row[column] for row in known] for column in ("concurrency", key))
            axes.plot(clients, values, "o-", color=COLORS[color % len(COLORS)], markersize=3, label=name)  # type: ignore[arg-type]
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("clients", fontsize=8)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8)
        clean_axes(axes)
        if number == 1:
            axes.legend(fontsize=8, frameon=False, loc="best")
    return svg_text(figure, "load")
