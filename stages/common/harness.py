"""Runs a stage: reuse, lock, resume, staging, provenance, interruption. What every command has in common.

A stage itself only reads its config, writes files into `context.staging` and returns figures.
"""

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from model.artifact.environment import describe_device, package_versions
from model.artifact.provenance import Provenance, describe_input, read_provenance, write_provenance
from model.artifact.staging import PROVENANCE_FILE, recover, refuse_if_taken, staged_directory
from model.errors import ArtifactError, InterruptedRunError, Nano2Error, PlanRefusedError, UsageError
from stages.common.allocator import keep_freed_memory, let_segments_grow
from stages.common.config import StageConfig
from stages.common.disk import is_disk_full
from stages.common.identity import first_difference, identity
from stages.common.inputs import HashedInput, check_inputs, find_inputs, hash_inputs, verify_inputs
from stages.common.interruption import interruption
from stages.common.plan import Plan
from stages.common.ranks import Ranks, lost_rank, ranks
from stages.common.reporter import QuietReporter, Reporter
from stages.common.run_directory import RunDirectory, locked_run_directory
from stages.common.stage import Stage, StageContext, StageOutcome, StageResult, StopFlag

_RESERVED_NAME = re.compile(r".*\.(run|(tmp|old|trash)-\w+)")


def run_stage(
    stage: Stage,
    config: StageConfig,
    *,
    out: Path | None,
    reporter: Reporter,
    command: Sequence[str],
    overwrite: bool = False,
    keep_run: bool = False,
) -> StageOutcome:
    """Run a stage and, if it makes one, put its artifact at `out`.

    `command` is the command line that asks for it, for the provenance. Raises a Nano2Error for whatever the
    user
    can cause: the output taken or being written, an input missing, the plan refused, the disk full, an
    interruption. Whatever happens, `out` is whole or absent.
    """
    keep_freed_memory()
    let_segments_grow()
    try:
        team = joined(stage)
        if stage.kind is None:
            return _run_command(stage, config, reporter, command)
        if out is None:
            raise UsageError("the output is missing", where=f"nano2 {stage.name}", remedy="add -o/--out DIR")
        return _ArtifactRun(stage, config, _checked_out(out, config), reporter, command, team).run(
            overwrite, keep_run
        )
    except Nano2Error:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise ArtifactError(
                "the disk is full; nothing half-written was left",
                where=str(getattr(error, "filename", None) or out or stage.name),
                remedy="free some space, or choose a place on another disk",
            ) from error
        raise


def _run_command(
    stage: Stage, config: StageConfig, reporter: Reporter, command: Sequence[str]
) -> StageOutcome:
    started = time.monotonic()
    check_inputs(config)
    _refuse_plan(stage.call_plan(config))
    with interruption(orderly=stage.resumable) as stop:
        try:
            result = stage.call_run(config, StageContext(reporter, stop, command))
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted", where=f"nano2 {stage.name}") from None
    return StageOutcome(result, seconds=time.monotonic() - started)


@dataclass(frozen=True)
class Work:
    """What the first rank tells the others of a run."""

    inputs: list[HashedInput]
    resuming: bool
    run_dir: Path


class _ArtifactRun:
    """One run of a stage that makes an artifact."""

    def __init__(
        self,
        stage: Stage,
        config: StageConfig,
        out: Path,
        reporter: Reporter,
        command: Sequence[str],
        team: Ranks | None,
    ) -> None:
        self.stage = stage
        self.config = config
        self.out = out
        self.reporter = reporter
        self.command = command
        self.started = time.monotonic()
        self.inputs: list[HashedInput] = []
        self.ranks = team
        self.resolved: dict[str, Any] = {}

    def run(self, overwrite: bool, keep_run: bool) -> StageOutcome:
        with interruption(orderly=self.stage.resumable) as stop:
            try:
                if self.ranks is None:
                    return self._reuse_or_run(overwrite, keep_run, stop)
                if self.ranks.first:
                    outcome = self._reuse_or_run(overwrite, keep_run, stop)
                    if outcome.up_to_date:
                        self.ranks.tell(None)
                else:
                    outcome = self._follow(stop)
                self.ranks.leave()
                return outcome
            except KeyboardInterrupt:
                self._interrupted("the same command starts over")
            except RuntimeError as error:
                if self.ranks is None or not lost_rank(error):
                    raise
                raise InterruptedRunError(
                    f"rank {self.ranks.rank} of {self.ranks.size} lost another one",
                    where=str(self.out),
                    remedy="see what the lost rank said; the same command continues from the state saved last",
                ) from error

    def _follow(self, stop: StopFlag) -> StageOutcome:
        """Compute what the first rank runs. What is written here besides goes into a folder that is thrown away."""
        assert self.ranks is not None
        told: Work | None = self.ranks.tell()
        if told is None:
            return StageOutcome(StageResult(), self.out, up_to_date=True)
        with TemporaryDirectory() as scratch:
            context = StageContext(
                QuietReporter(),
                stop,
                self.command,
                inputs=told.inputs,
                resuming=told.resuming,
                _out=self.out,
                _staging=Path(scratch),
                _run_dir=told.run_dir,
            )
            result = self.stage.call_run(self.config, context)
            self.ranks.meet()
            return StageOutcome(result, self.out)

    def _reuse_or_run(self, overwrite: bool, keep_run: bool, stop: StopFlag) -> StageOutcome:
        self.inputs = hash_inputs(self.config, self.reporter)
        self.resolved = self.config.resolved({item.path: item.content_hash for item in self.inputs})
        recover(self.out)
        # Asked twice: an artifact that is done needs no lock, and another run may finish it before we hold
        # the lock.
        if outcome := self._reuse(overwrite):
            return outcome
        with locked_run_directory(self.out) as directory:
            if outcome := self._reuse(overwrite):
                return outcome
            verify_inputs(self.inputs)
            _refuse_plan(self.stage.call_plan(self.config, self.out))
            if stop:
                self._interrupted("nothing was done yet; the same command starts over")
            resuming = directory.begin(
                self.stage.name, type(self.config), self.resolved, self.command, discard=overwrite
            )
            if resuming:
                self.reporter.log(f"continuing the run in {directory.path}")
            outcome = self._make(directory, stop, resuming, overwrite)
            if not keep_run:
                directory.remove()
            return outcome

    def _reuse(self, overwrite: bool) -> StageOutcome | None:
        """The finished artifact's outcome, if it is what this run would make; None if OUT may be written.

        Raises UsageError if OUT is taken by something else.
        """
        try:
            provenance = read_provenance(self.out)
        except ArtifactError:  # a damaged artifact is not reused, but may be replaced
            if not overwrite:
                raise
            provenance = None
        if provenance is None:
            refuse_if_taken(self.out, overwrite=overwrite)
            return None
        difference = self._difference(provenance)
        if difference is None:
            with suppress(OSError):  # someone else's artifact, or a read-only disk: as good as touched
                os.utime(self.out / PROVENANCE_FILE)
            metrics = {name: value for name, value in provenance.metrics.items() if value is not None}
            return StageOutcome(StageResult(metrics=metrics), self.out, up_to_date=True)
        if not overwrite:
            raise UsageError(
                f"the output exists and differs from what this command makes: {difference}",
                where=str(self.out),
                remedy="choose another -o, or pass --overwrite to replace it",
            )
        return None

    def _difference(self, provenance: Provenance) -> str | None:
        if provenance.stage != self.stage.name:
            return f"it was made by {provenance.stage!r}"
        for name, record in provenance.files.items():
            path = self.out / name
            if not path.is_file() or path.stat().st_size != record.size:
                return f"its file {name} is missing or was changed"
        config = type(self.config)
        return first_difference(identity(provenance.config, config), identity(self.resolved, config))

    def _make(self, directory: RunDirectory, stop: StopFlag, resuming: bool, overwrite: bool) -> StageOutcome:
        before = directory.seconds_before()
        try:
            with staged_directory(self.out, overwrite=overwrite) as staging:
                context = StageContext(
                    self.reporter,
                    stop,
                    self.command,
                    inputs=self.inputs,
                    resuming=resuming,
                    _out=self.out,
                    _staging=staging,
                    _run_dir=directory.path,
                )
                if self.ranks is not None:
                    self.ranks.tell(Work(self.inputs, resuming, directory.path))
                result = self.stage.call_run(self.config, context)
                if self.ranks is not None:
                    self.ranks.meet()  # nobody reads in the run directory any more
                seconds = before + time.monotonic() - self.started
                write_provenance(staging, self._provenance(result, seconds, context.device))
        except InterruptedRunError:
            if directory.has_state():
                directory.add_seconds(time.monotonic() - self.started)
            raise
        except Exception:
            if directory.has_state():
                self.reporter.log(
                    f"the state saved so far stays in {directory.path}; the same command continues"
                )
            raise
        return StageOutcome(result, self.out, seconds=seconds)

    def _provenance(self, result: StageResult, seconds: float, device: str) -> Provenance:
        used = {field: iter(weights) for field, weights in result.weights.items()}
        parents = [
            describe_input(
                item.path,
                out=self.out,
                content_hash=item.content_hash,
                weight=next(used[item.field]) if item.field in used else item.weight,
            )
            for item in self.inputs
        ]
        seed = self.resolved.get("seed")
        return Provenance(
            kind=self.stage.kind,
            stage=self.stage.name,
            parents=[parent for parent in parents if parent.kind != "data"],
            data=[parent for parent in parents if parent.kind == "data"],
            config=self.resolved,
            command=list(self.command),
            versions=package_versions(),
            device=describe_device(device) | ({} if self.ranks is None else {"ranks": self.ranks.size}),
            seed=seed if isinstance(seed, int) else None,
            metrics=dict(result.metrics),
            seconds=round(seconds, 3),
        )

    def _interrupted(self, what_next: str) -> NoReturn:
        raise InterruptedRunError("interrupted", where=str(self.out), remedy=what_next) from None


def _checked_out(out: Path, config: StageConfig) -> Path:
    """The real path of OUT. UsageError for a name that nano2 keeps for itself, and for an OUT in or around
    an input."""
    real = Path(os.path.realpath(out))
    if not real.name or _RESERVED_NAME.fullmatch(real.name):
        raise UsageError("is no name for an output", where=str(out), remedy="choose another -o")
    folder = next(parent for parent in real.parents if os.path.lexists(parent))
    if not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        reason = "permission denied" if folder.is_dir() else "not a directory"
        raise UsageError(
            f"cannot be written ({folder}: {reason})", where=str(out), remedy="choose another -o"
        )
    for item in find_inputs(config):
        source = Path(os.path.realpath(item.path))
        if source == real or source in real.parents or real in source.parents:
            raise UsageError(
                f"the output would lie in, around or over the input {item.path}",
                where=str(out),
                remedy="choose another -o",
            )
    return real


def _refuse_plan(plan: Plan | None) -> None:
    if plan is not None and plan.refusals:
        raise PlanRefusedError("; ".join(plan.refusals), where=plan.title, remedy="see --plan")


def joined(stage: Stage) -> Ranks | None:
    """The ranks of this run, which have met; None where it is one process. UsageError if the stage cannot be shared."""
    found = ranks()
    if found is None:
        return None
    if not stage.on_ranks:
        raise UsageError(
            f"nano2 {stage.name} runs in one process, and torchrun started {found.size}",
            where="torchrun",
            remedy=f"start it as nano2 {stage.name}",
        )
    found.join()
    return found
