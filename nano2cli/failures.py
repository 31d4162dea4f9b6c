"""Every way a command can fail, as an exit code and at most five lines: what, where, what to do next."""

import os
import sys
import traceback
from contextlib import suppress
from typing import Any

import typer

from model.errors import ArtifactError, InterruptedRunError, Nano2Error, PlanRefusedError, UsageError
from nano2cli.suggest import did_you_mean


def fail(error: BaseException, *, as_json: bool, debug: bool, payload: dict[str, Any] | None = None) -> int:
    """Report an error on stderr, and with `as_json` on stdout too, added to `payload`. Returns the exit
    code."""
    explained = explain(error)
    if debug and error.__traceback__ is not None:
        traceback.print_exception(error)
    for line in describe(explained):
        print(line, file=sys.stderr)
    if as_json:
        from nano2cli.console import to_json

        with suppress(OSError):  # the exit code says it all the same
            print_line(to_json((payload or {}) | {"error": error_payload(explained)}))
    return explained.exit_code


def explain(error: BaseException) -> Nano2Error:
    """The Nano2Error that says what `error` means to the user."""
    from stages.common.disk import is_disk_full

    if isinstance(error, Nano2Error):
        return error
    if isinstance(error, typer.TyperException):
        return _explain_typer(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return InterruptedRunError("interrupted")
    if is_disk_full(error):
        where = getattr(error, "filename", None)
        return ArtifactError(
            "the disk is full", where=str(where or ""), remedy="free some space and try again"
        )
    if _is_out_of_memory(error):
        return PlanRefusedError(
            "out of memory", remedy="see --plan, and take a smaller batch, sequence or model"
        )
    message = _one_line(str(error))
    named = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return Nano2Error(f"internal error, {named} (--debug shows the traceback)")


def describe(error: Nano2Error) -> list[str]:
    """What stderr shows of an error: one line for each of what, where and what to do next."""
    lines = [f"error: {_one_line(error.what)}"]
    if error.where:
        lines.append(f"  where: {_one_line(error.where)}")
    if error.remedy:
        lines.append(f"  next:  {_one_line(error.remedy)}")
    return lines


def error_payload(error: Nano2Error) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "exit_code": error.exit_code,
        "what": error.what,
        "where": error.where,
        "remedy": error.remedy,
    }


def print_line(text: str) -> None:
    """One line on stdout, and nothing if nobody reads it any more (`nano2 ... | head`).

    Raises OSError if it cannot be written for another reason, such as a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        abandon_stdout()
        if not isinstance(error, BrokenPipeError):
            raise


def abandon_stdout() -> None:
    """Keep the interpreter from complaining at its end about output that it could not get rid of."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _explain_typer(error: typer.TyperException) -> Nano2Error:
    context = getattr(error, "ctx", None)
    if context is None:
        return UsageError(error.format_message(), where="nano2", remedy="see nano2 --help")
    what = error.message.rstrip(".")
    if option := getattr(error, "option_name", None):
        known = [
            flag
            for param in context.command.get_params(context)
            for flag in (*param.opts, *param.secondary_opts)
        ]
        what += did_you_mean(option, known)
    elif getattr(error, "param", None) is not None:  # a value that Typer itself could not read
        what = error.format_message().rstrip(".")
    return UsageError(what, where=context.command_path, remedy=f"see {context.command_path} --help")


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's own class for CUDA; a plain RuntimeError from its CPU allocator
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
