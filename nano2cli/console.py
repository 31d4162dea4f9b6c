"""Standard output: the result and nothing else, as tables for people or as one JSON object on the last
line."""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nano2cli.formatting import format_figure, format_label
from stages.common.plan import Plan
from stages.common.sizes import format_bytes, format_duration
from stages.common.stage import StageOutcome
from stages.common.tables import lay_out

_PIPE_WIDTH = 160  # columns of a table that is not shown on a terminal
_PLAN_ROWS = 20  # of a plan's table that are shown to people


@contextmanager
def result_stream() -> Iterator[TextIO]:
    """The real standard output. Meanwhile whatever a library prints, in Python or in C, goes to standard
    error."""
    sys.stdout.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    stream = os.fdopen(os.dup(descriptor), "w", encoding=sys.stdout.encoding, errors="backslashreplace")
    try:
        yield stream
        stream.flush()
    finally:
        sys.stdout.flush()
        os.dup2(descriptor, 1)
        os.close(descriptor)
        with suppress(OSError):  # what could not be written was reported by the flush above
            stream.close()


class PipeConsole(Console):
    """A console that leaves a closed pipe to its caller; rich would end the process with exit code 1."""

    def on_broken_pipe(self) -> None:
        raise  # rich calls this while it handles the BrokenPipeError


class ResultConsole:
    """Prints results for people to a stream."""

    def __init__(self, stream: TextIO) -> None:
        width = None if stream.isatty() else _PIPE_WIDTH
        self.console = PipeConsole(file=stream, width=width, highlight=False, emoji=False, markup=False)

    def output(self, renderable: object, end: str = "\n") -> None:
        """A part of the result as it appears."""
        if isinstance(renderable, str):
            self.console.out(renderable, end=end, highlight=False)
        else:
            self.console.print(renderable, end=end, soft_wrap=isinstance(renderable, Text))
        self.console.file.flush()

    def outcome(self, outcome: StageOutcome) -> None:
        result = outcome.result
        if result.metrics:
            self.console.print(_figures(result.metrics))
        if result.rows:
            self.console.print(_rows(result.rows))
        for note in result.notes:
            self.output(note)
        if outcome.up_to_date:
            self.output(f"{outcome.out} is up to date")
        elif outcome.out is not None:
            self.output(f"{outcome.out} written in {format_duration(outcome.seconds)}")

    def plan(self, plan: Plan) -> None:
        table = Table(title=plan.title, title_justify="left", box=SIMPLE, show_header=False)
        table.add_column()
        table.add_column(justify="right", overflow="fold")
        for heading, figures in plan.sections.items():
            table.add_row(Text(heading, style="bold"), "")
            for name, value in figures.items():
                table.add_row(Text("  " + format_label(name)), Text(format_figure(name, value)))
        if plan.peak_bytes is not None:
            table.add_row(Text("peak memory", style="bold"), Text(format_bytes(plan.peak_bytes)))
        if plan.disk_bytes is not None:
            table.add_row(Text("on disk", style="bold"), Text(format_bytes(plan.disk_bytes)))
        if plan.seconds is not None:
            table.add_row(Text("time", style="bold"), Text(format_duration(plan.seconds)))
        self.console.print(table)
        if plan.rows:
            self.console.print(_rows(plan.rows[:_PLAN_ROWS]))
        if hidden := len(plan.rows[_PLAN_ROWS:]):
            self.output(f"and {hidden} more, which --json lists")
        for warning in plan.warnings:
            self.output(f"warning: {warning}")


def _figures(metrics: Mapping[str, object]) -> Table:
    table = Table(box=SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right", overflow="fold")
    for name, value in metrics.items():
        table.add_row(Text(format_label(name)), Text(format_figure(name, value)))
    return table


def _rows(rows: list[dict[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return lay_out(rows, names, label=format_label, shown=format_figure)


def outcome_payload(outcome: StageOutcome) -> dict[str, Any]:
    """The JSON object of a finished command."""
    result = outcome.result
    return {
        "status": "up to date" if outcome.up_to_date else "done",
        "out": None if outcome.out is None else str(outcome.out),
        "seconds": round(outcome.seconds, 3),
        "metrics": result.metrics,
        "rows": result.rows,
        "notes": result.notes,
        "data": result.data,
    }


def to_json(payload: Mapping[str, Any]) -> str:
    """One line of strict JSON: NaN and infinities, which it cannot say, become null."""
    return json.dumps(_plain(payload), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "item"):  # a numpy or torch scalar
        return _plain(value.item())
    return str(value) if isinstance(value, Path) else repr(value)
