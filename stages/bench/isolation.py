"""One measurement, one fresh process: peak memory is the measurement's own, and no cache of the last one is warm.

Processes are forked from a server that has imported the libraries and done nothing else: starting one takes a tenth of a
second instead of five, and what the libraries themselves occupy is there before a measurement begins.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from model.errors import Nano2Error

PRELOADED = "stages.bench.cpu.measure"
"""Imported by the server, and so is the module of the first function that is run."""

SECONDS_TO_END = 10
"""A process that has sent its result may put its things away; then it is ended."""

Given = ParamSpec("Given")
Measured = TypeVar("Measured")


class ProcessEndedError(Nano2Error):
    """A measuring process ended without a result. code: its exit code, or minus the number of the signal that ended it."""

    def __init__(self, code: int | None, where: str) -> None:
        super().__init__(
            f"the measuring process ended with code {code}",
            where=where,
            remedy="see that enough memory is free (a process killed with code -9 was out of it)",
        )
        self.code = code


def run_isolated(function: Callable[Given, Measured], *args: Given.args, **kwargs: Given.kwargs) -> Measured:
    """`function(...)` in a fresh process; all it does to the process ends with it.

    function: a module-level function; arguments and result travel between processes. Raises Nano2Error if the process
    fails, ProcessEndedError if it is killed, in which case memory ran out as a rule.
    """
    # Of a server that had asked CUDA for a GPU no forked process could use it: so the driver's tools are asked.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED, function.__module__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, function, args, kwargs), daemon=True)
    process.start()
    sender.close()
    try:
        outcome, failure = receiver.recv()
        process.join(SECONDS_TO_END)
    except EOFError:
        process.join()
        raise ProcessEndedError(process.exitcode, f"{function.__name__}{args}") from None
    finally:
        process.terminate()
        process.join()
        receiver.close()
    if failure:
        raise Nano2Error(
            failure.strip().splitlines()[-1],
            where=f"{function.__name__}{args}",
            remedy="run with --debug for the traceback",
        ) from RuntimeError(failure)
    return outcome


def _serve(sender: Connection, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent ends this process
    try:
        message = (function(*args, **kwargs), "")
    except Exception:
        message = (None, traceback.format_exc())
    sender.send(message)
    sender.close()
