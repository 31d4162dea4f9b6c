"""What an evaluation tells while it works."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol


class Bar(Protocol):
    """A progress bar that is shown."""

    def update(self, advance: int = 1) -> None: ...


class _NoBar:
    def update(self, advance: int = 1) -> None:
        pass


Progress = Callable[[str, int, str], AbstractContextManager[Bar]]
"""Makes a progress bar from a title, a total and a unit."""


@dataclass(frozen=True)
class Callbacks:
    """warn: called with what the user should know. check: called between batches; ends the evaluation by an exception."""

    progress: Progress = lambda _title, _total, _unit: nullcontext(_NoBar())
    warn: Callable[[str], None] = lambda _message: None
    check: Callable[[], None] = lambda: None
