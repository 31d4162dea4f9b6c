"""Every failure a user can cause or meet, with its exit code.

An error says three things: what is wrong, where (a file, a key, a line, a layer), and what to do next. The
command line prints just these; a traceback only with `--debug`.
"""


class Nano2Error(Exception):
    """A failure that is explained to the user in one sentence. `exit_code` is the process's exit status."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(": ".join(part for part in (where, what) if part))
        self.what = what
        self.where = where
        self.remedy = remedy


class UsageError(Nano2Error):
    """A flag, recipe or combination of settings that cannot be run (exit 2)."""

    exit_code = 2


class ArtifactError(Nano2Error):
    """An artifact or a data file that is missing, damaged or inconsistent (exit 3)."""

    exit_code = 3


class NotFiniteError(ArtifactError):
    """A model that computes a NaN or an infinity. In a training run it is what the run has made of the model."""


class PlanRefusedError(Nano2Error):
    """A run that cannot fit or lacks a kernel or package it asked for (exit 4)."""

    exit_code = 4


class DivergedError(Nano2Error):
    """Training met a NaN or an infinity (exit 5)."""

    exit_code = 5


class InterruptedRunError(Nano2Error):
    """The run was interrupted with its state saved; the same command continues it (exit 75)."""

    exit_code = 75


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; its name if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
