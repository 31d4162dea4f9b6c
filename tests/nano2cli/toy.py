"""A small but real stage for the tests of the command line and the harness: it folds numbers into a hash,
step by step, saves its state after every step, and can be told to fail in the ways that stages fail.
"""

import errno
import hashlib
import json
import os
import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from model.errors import ArtifactError, DivergedError, InterruptedRunError
from stages.common.config import Cosmetic, DataPaths, ModelPath, Panel, StageConfig
from stages.common.plan import Plan
from stages.common.sizes import ByteSize, Size
from stages.common.stage import Stage, StageContext, StageResult


class Precision(Enum):
    BF16 = "bf16"
    FP32 = "fp32"


class ToyConfig(StageConfig):
    """Fold numbers into a hash.

    Stands in for a training stage.
    """

    model: ModelPath | None = Field(None, description="Model to start from.")
    data: DataPaths = Field((), description="Data, with its weight.")
    steps: Size = Field(5, gt=0, description="Steps to take.")
    learning_rate: Annotated[float, Panel("Optimizer")] = Field(
        1e-3, gt=0, description="Peak rate [in brackets]."
    )
    schedule: Literal["wsd", "cosine"] = Field("wsd", description="Schedule of the rate.")
    group: Literal[1, 8] = Field(1, description="Groups.")
    precision: Precision = Field(Precision.FP32, description="Arithmetic.")
    clip: float | None = Field(1.0, description="Clipping norm.")
    workers: int | Literal["auto"] = Field("auto", description="Processes.")
    shape: dict[str, int] = Field(default_factory=dict, description="Overrides of the shape.")
    extras: dict[str, Any] = Field(default_factory=dict, description="Anything.")
    tags: tuple[str, ...] = Field((), description="Labels.")
    tie: bool = Field(False, description="Tie the embeddings.")
    memory: ByteSize = Field(2**20, description="Memory it takes.")
    seed: int = Field(0, description="Seed.")
    log_every: Annotated[int, Cosmetic()] = Field(10, description="Steps between log lines.")
    delay: Annotated[float, Cosmetic()] = Field(0.0, description="Seconds a step takes.")
    fail: Annotated[str, Cosmetic()] = Field("", description="How to fail, if at all.")


STAGE = Stage(
    name="toy",
    kind="eval",
    config=ToyConfig,
    run="tests.nano2cli.toy:run",
    plan="tests.nano2cli.toy:plan",
    resumable=True,
)
SIMPLE = Stage(name="simple", kind="eval", config=ToyConfig, run="tests.nano2cli.toy:run_simply")
SHOW = Stage(name="show", kind=None, config=ToyConfig, run="tests.nano2cli.toy:show")


def plan(config: ToyConfig) -> Plan:
    refusals = ["needs more than 1 GiB: lower --memory"] if config.memory > 2**30 else []
    return Plan(
        title="toy",
        sections={"memory": {"weights_bytes": config.memory}, "work": {"steps": config.steps}},
        peak_bytes=config.memory,
        seconds=config.steps * config.delay,
        refusals=refusals,
        warnings=["the figures are invented"],
    )


def run(config: ToyConfig, context: StageContext) -> StageResult:
    state_file = context.run_dir / "state.json"
    step, digest = json.loads(state_file.read_text()) if context.resuming else (0, "")
    with context.reporter.progress("folding", total=config.steps, unit="step") as bar:
        bar.update(step)
        while step < config.steps:
            digest = _fold(config, step, digest)
            step += 1
            time.sleep(config.delay)
            _save(state_file, [step, digest])
            bar.update(1, loss=1 / step, tok_per_s=1234.5, mfu=0.25, memory_bytes=2**30)
            if step == config.steps // 2:
                _misbehave(config.fail, context)
            if context.stop:
                raise InterruptedRunError(
                    "interrupted", where=f"step {step}", remedy="run the same command to continue"
                )
    return _finish(config, context, digest)


def run_simply(config: ToyConfig, context: StageContext) -> StageResult:
    digest = ""
    for step in range(config.steps):
        digest = _fold(config, step, digest)
        time.sleep(config.delay)
        (context.staging / "partial.txt").write_text(digest)
    _misbehave(config.fail, context)
    return _finish(config, context, digest)


def show(config: ToyConfig, context: StageContext) -> StageResult:
    for index in range(config.steps):
        context.reporter.output(f"line {index}")
        time.sleep(config.delay)
    _misbehave(config.fail, context)
    failure = (
        ArtifactError("the two disagree", where="layer 3", remedy="look there")
        if config.fail == "result"
        else None
    )
    return StageResult(
        metrics={"lines": config.steps, "nan": float("nan")},
        rows=[{"name": "a[b]", "loss": 1.5}],
        failure=failure,
    )


def plan_as_run(config: ToyConfig, context: StageContext) -> Plan:
    """A stage with a bug: it returns something else than a StageResult."""
    return plan(config)


def _fold(config: ToyConfig, step: int, digest: str) -> str:
    return hashlib.sha256(f"{digest}{step}{config.learning_rate}{config.seed}".encode()).hexdigest()


def _finish(config: ToyConfig, context: StageContext, digest: str) -> StageResult:
    (context.staging / "weights.txt").write_text(digest)
    return StageResult(metrics={"loss": 0.5, "steps": config.steps}, notes=["a note"])


def _save(path: Path, state: object) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(state))
    temporary.rename(path)


def _misbehave(how: str, context: StageContext) -> None:
    match how:
        case "key_error":
            raise KeyError("mixer")
        case "diverged":
            raise DivergedError("the loss is NaN", where="layer 3, batch 7", remedy="lower --learning-rate")
        case "fill":
            (context.staging / "large").write_bytes(b"x" * 2**20)
        case "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/file")
        case "disk_in_words":
            raise RuntimeError("I/O error: No space left on device (os error 28)")
        case "memory":
            raise MemoryError
        case "interrupted":
            raise InterruptedRunError("interrupted", where="half way")
        case "exit":
            raise SystemExit(0)
        case "print":
            print("noise from a library")
            os.system("echo noise from C")
        case "fork":
            worker = os.fork()
            if worker == 0:
                time.sleep(20)
                os._exit(0)
            temporary = context.run_dir / "forking"
            temporary.write_text(str(worker))
            temporary.rename(context.run_dir / "forked")
            time.sleep(60)
