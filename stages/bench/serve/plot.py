"""The grid as a plot: throughput and the times of a token, over the clients."""

from collections.abc import Sequence

from stages.bench.plotting import line_panels
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
    return line_panels(lines, PANELS, "concurrency", "clients", "load")
