"""The sweep as a plot: throughput and memory over the micro-batch."""

from collections.abc import Sequence

from stages.bench.plotting import line_panels
from stages.bench.train.summary import Row

PANELS = {"tok_per_s": "tokens per second", "peak_bytes": "peak memory, bytes"}


def sweep_plot(rows: Sequence[Row]) -> str:
    """SVG; rows: of the table `train`. A line for each side and its configuration, where a point of it fits."""
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: int(str(row["micro_batch"]))):
        if row["unfit"] is None:
            lines.setdefault(f"{row['side']}: {row['config']}", []).append(row)
    return line_panels(lines, PANELS, "micro_batch", "rows in a micro-batch", "sweep")
