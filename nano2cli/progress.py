"""What a running stage says, on standard error: a live bar on a terminal, now and then a plain line
elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from nano2cli.console import ResultConsole, to_json
from nano2cli.formatting import format_figure, format_label
from stages.common.reporter import FieldValue, ProgressBar
from stages.common.sizes import format_duration

FIRST_LINE_AFTER = 2.0  # seconds; work that is over sooner is not worth a line
LINE_EVERY = 10.0  # seconds between plain lines


class TerminalReporter:
    """The `Reporter` of the command line. `results` is where output goes, None with --json; `stream` is stdout, where events
    go then.

    Use it as a context manager: the live display ends with the block, whatever happens in it.
    """

    def __init__(self, results: ResultConsole | None, stream: TextIO | None = None) -> None:
        self._results = results
        self._stream = stream
        self._console = Console(stderr=True, highlight=False, emoji=False, markup=False)
        self._live: Progress | None = None

    def __enter__(self) -> "TerminalReporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_live()

    def log(self, message: str) -> None:
        self._line(message)

    def warn(self, message: str) -> None:
        self._line(f"warning: {message}", style="yellow")

    def output(self, renderable: object, end: str = "\n") -> None:
        if self._results is not None:
            self._close_live()  # a bar and the result may share the terminal
            self._results.output(renderable, end)

    def event(self, fields: Mapping[str, FieldValue], text: str) -> None:
        if self._results is None and self._stream is not None:
            print(to_json(fields), file=self._stream, flush=True)
        else:
            self.output(text)

    @contextmanager
    def progress(self, title: str, total: int | None, unit: str = "") -> Iterator[ProgressBar]:
        state = ProgressState(title, total, unit)
        if not self._console.is_terminal:
            yield PlainBar(state, self._line)
            if state.elapsed > FIRST_LINE_AFTER:
                self._line(state.summary())
            return
        if self._live is None:
            self._live = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _StateColumn(),
                console=self._console, transient=True,
            )  # fmt: skip
            self._live.start()
        live, task = self._live, self._live.add_task(title, total=total, state=state)
        try:
            yield LiveBar(state, live, task)
        finally:
            live.remove_task(task)
            if not live.tasks:
                self._close_live()
        if state.elapsed > FIRST_LINE_AFTER:
            self._line(state.summary())

    def _line(self, message: str, style: str | None = None) -> None:
        self._console.print(Text(message), style=style, soft_wrap=True)

    def _close_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class ProgressState:
    """How far some work is, and how fast it goes."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = 0
        self.fields: dict[str, FieldValue] = {}
        self.started = time.monotonic()
        self._first_done: tuple[int, float] | None = None

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def advance(self, amount: int, fields: dict[str, FieldValue]) -> None:
        self.done += amount
        self.fields.update(fields)
        if self._first_done is None and amount:
            # What came first (a resumed run's jump, compilation, a cold cache) says nothing about the pace.
            self._first_done = (self.done, time.monotonic())

    def remaining(self) -> float | None:
        """Seconds to go at the pace so far, or None while there is none."""
        if self.total is None or self._first_done is None or self.done <= self._first_done[0]:
            return None
        pace = (time.monotonic() - self._first_done[1]) / (self.done - self._first_done[0])
        return max(self.total - self.done, 0) * pace

    def facts(self) -> str:
        """`120/2,000 steps  loss 3.214  tok/s 1,234  ETA 3m 20s`."""
        count = f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"
        parts = [f"{count} {self._units()}".rstrip()]
        parts += [f"{format_label(name)} {format_figure(name, value)}" for name, value in self.fields.items()]
        if (remaining := self.remaining()) is not None and self.done < (self.total or 0):
            parts.append(f"ETA {format_duration(remaining)}")
        return "  ".join(parts)

    def summary(self) -> str:
        return f"{self.title}: {self.facts()}  in {format_duration(self.elapsed)}"

    def _units(self) -> str:
        return self.unit if not self.unit or self.total == 1 else self.unit + "s"


class PlainBar:
    """Progress where nothing can be redrawn: a line after the first seconds, then one every now and then."""

    def __init__(self, state: ProgressState, print_line: Callable[[str], None]) -> None:
        self._state = state
        self._print_line = print_line
        self._next_line = state.started + FIRST_LINE_AFTER

    def update(self, advance: int = 1, **fields: FieldValue) -> None:
        self._state.advance(advance, fields)
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY
            self._print_line(f"{self._state.title}: {self._state.facts()}")


class LiveBar:
    """Progress on a terminal, redrawn by rich."""

    def __init__(self, state: ProgressState, live: Progress, task: TaskID) -> None:
        self._state = state
        self._live = live
        self._task = task

    def update(self, advance: int = 1, **fields: FieldValue) -> None:
        self._state.advance(advance, fields)
        self._live.update(self._task, advance=advance)


class _StateColumn(ProgressColumn):
    """The facts beside the bar."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["state"].facts())
