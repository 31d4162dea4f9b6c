"""SIGINT and SIGTERM: a first one asks for an orderly end, a second one ends the process at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from stages.common.stage import StopFlag

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruption(*, orderly: bool) -> Iterator[StopFlag]:
    """Handle signals during the block. With `orderly` the first one only sets the flag that is yielded, and
    the stage ends where it can save its state; without, it raises KeyboardInterrupt on the spot. Outside the
    main thread signals are left as they are.
    """
    stop = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        # The kernel's own action from here on: it works even inside a long call that never returns to Python.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if os.getpid() != owner:  # a forked worker
            os.kill(os.getpid(), number)
            return
        stop.signal_name = signal.Signals(number).name
        if not orderly:
            raise KeyboardInterrupt
        # Not through a Python stream: the signal may have come in the middle of a write to it.
        os.write(
            2, f"\n{stop.signal_name}: saving and ending; once more ends at once, without saving\n".encode()
        )

    before: dict[signal.Signals, Any] = {each: signal.signal(each, handle) for each in _SIGNALS}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
