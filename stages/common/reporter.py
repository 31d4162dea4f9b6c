"""How a stage speaks while it runs. The terminal's side is `nano2cli/progress.py`."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

FieldValue = str | int | float


class ProgressBar(Protocol):
    def update(self, advance: int = 1, **fields: FieldValue) -> None:
        """Move on by `advance` units. `fields` are shown beside the bar until they are given again: `loss`,
        `tok_per_s`, `mfu` (a share of 1), names ending in `_bytes`, or any other name."""


class Reporter(Protocol):
    def log(self, message: str) -> None:
        """One line on stderr."""

    def warn(self, message: str) -> None:
        """One line on stderr that must not be missed: a fallback, something dropped."""

    def output(self, renderable: object, end: str = "\n") -> None:
        """Part of the result, on stdout as it appears: a string or anything that rich prints. Dropped with
        `--json`."""

    def event(self, fields: Mapping[str, FieldValue], text: str) -> None:
        """One line on stdout that a program waits for while the command goes on: `text`, or with `--json` the fields as
        one JSON object."""

    def progress(self, title: str, total: int | None, unit: str = "") -> AbstractContextManager[ProgressBar]:
        """A progress bar on stderr; `total` None when it is not known how long the work is."""


class QuietReporter:
    """Says nothing and keeps what it was told: for library use and tests."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.outputs: list[object] = []
        self.events: list[Mapping[str, FieldValue]] = []

    def log(self, message: str) -> None:
        self.messages.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def output(self, renderable: object, end: str = "\n") -> None:  # noqa: ARG002
        self.outputs.append(renderable)

    def event(self, fields: Mapping[str, FieldValue], text: str) -> None:  # noqa: ARG002
        self.events.append(fields)

    @contextmanager
    def progress(self, title: str, total: int | None, unit: str = "") -> Iterator[ProgressBar]:  # noqa: ARG002
        yield QuietProgressBar()


class QuietProgressBar:
    """Counts, and keeps the fields last given."""

    def __init__(self) -> None:
        self.done = 0
        self.fields: dict[str, FieldValue] = {}

    def update(self, advance: int = 1, **fields: FieldValue) -> None:
        self.done += advance
        self.fields.update(fields)
