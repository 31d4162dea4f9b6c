"""What a stage is, and what it gets and gives. No torch here: help pages and recipe errors must stay
cheap."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from model.errors import InterruptedRunError, Nano2Error
from stages.common.config import StageConfig
from stages.common.disk import with_free_space
from stages.common.inputs import HashedInput
from stages.common.plan import Plan
from stages.common.reporter import Reporter


@dataclass(frozen=True)
class Stage:
    """A command of `nano2`.

    name: as typed, `"pretrain"` or `"data prepare"`.
    kind: the kind of artifact it makes (`model`, `tokenizer`, `dataset`, `eval`, `bench`, `reward`), or None
    for
        a command that makes none and has no OUT.
    config: its settings.
    run, plan: `"package.module:function"`, imported only when called.
        `run(config, context) -> StageResult`; `plan(config) -> Plan`.
    before: a function of the same form, called before they are imported: what libraries read while they are imported.
    on_ranks: may be started by torchrun as several processes; any other stage refuses.
    resumable: on the first signal it saves its state in `context.run_dir` and raises InterruptedRunError.
    """

    name: str
    kind: str | None
    config: type[StageConfig]
    run: str
    plan: str | None = None
    resumable: bool = False
    before: str | None = None
    on_ranks: bool = False

    def call_run(self, config: StageConfig, context: "StageContext") -> "StageResult":
        result = self._target(self.run)(config, context)
        if not isinstance(result, StageResult):
            raise TypeError(f"{self.run} returned {type(result).__name__} instead of a StageResult")
        return result

    def call_plan(self, config: StageConfig, out: Path | None = None) -> Plan | None:
        """The stage's estimate, or None where there is nothing to plan. With `out` the free space there is compared, too."""
        plan: Plan | None = self._target(self.plan)(config) if self.plan else None
        return with_free_space(plan, out) if plan and out else plan

    def _target(self, target: str) -> Any:
        if self.before:
            load_target(self.before)()
        return load_target(target)


def load_target(target: str) -> Any:
    """The object that `"package.module:name"` names."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


@dataclass
class StopFlag:
    """True once SIGINT or SIGTERM asked for an end. A resumable stage looks at it between steps."""

    signal_name: str = ""

    def __bool__(self) -> bool:
        return bool(self.signal_name)


@dataclass
class StageContext:
    """What a running stage works with.

    out: where the artifact will lie. The stage never writes there, but into `staging`, which becomes `out`.
    run_dir: `OUT.run`, for resume state; survives an interruption, removed after success.
    resuming: `run_dir` holds what an earlier, interrupted run of the same command left.
    inputs: what was read and hashed, in field order.
    device: where the stage computes, as torch spells it; a stage that uses a GPU says so, for the provenance.
    """

    reporter: Reporter
    stop: StopFlag
    command: Sequence[str]
    inputs: Sequence[HashedInput] = ()
    resuming: bool = False
    device: str = "cpu"
    _out: Path | None = None
    _staging: Path | None = None
    _run_dir: Path | None = None

    @property
    def out(self) -> Path:
        return _given(self._out)

    @property
    def staging(self) -> Path:
        return _given(self._staging)

    @property
    def run_dir(self) -> Path:
        return _given(self._run_dir)

    def check_stop(self, what: str) -> None:
        """InterruptedRunError if an end was asked for. `what` says how much of the work is kept."""
        if self.stop:
            raise InterruptedRunError(
                f"interrupted; {what}", where=str(self.out), remedy="run the same command to continue"
            )


def _given(path: Path | None) -> Path:
    if path is None:
        raise RuntimeError("a command without an artifact (kind=None) has no out, staging or run_dir")
    return path


@dataclass
class StageResult:
    """What a stage found out.

    metrics: the figures, one value a name; recorded in the artifact's nano2.json.
    rows: a table (one dict a row, same keys). notes: sentences for the reader.
    data: anything JSON more, shown only with `--json`.
    weights: of the inputs of a field, in their order, with what weight they were used, where that is not the one given.
    failure: set where there is a result and yet the command has to fail: printed after it, with its exit
    code.
    """

    metrics: dict[str, float | int | str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Sequence[float]] = field(default_factory=dict)
    failure: Nano2Error | None = None


@dataclass
class StageOutcome:
    """How a run ended: `up_to_date` when the artifact was there already and nothing was done. `seconds` of
    work."""

    result: StageResult
    out: Path | None = None
    up_to_date: bool = False
    seconds: float = 0.0
