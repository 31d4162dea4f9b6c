"""`nano2 replay DIR`: the commands that rebuild an artifact, printed or run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from model.artifact.hashing import short_hash
from model.artifact.provenance import Provenance, read_provenance
from model.artifact.replay import ReplayStep, first_differing_file, replay_commands, replay_script
from model.artifact.staging import write_text_atomic
from model.errors import (
    ArtifactError,
    DivergedError,
    InterruptedRunError,
    Nano2Error,
    PlanRefusedError,
    UsageError,
)
from stages.common.config import Positional, StageConfig
from stages.common.stage import Stage, StageContext, StageResult

SCRIPT_FILE = "replay.sh"
_ERRORS = {
    error.exit_code: error
    for error in (UsageError, ArtifactError, PlanRefusedError, DivergedError, InterruptedRunError)
}


class ReplayConfig(StageConfig):
    """Print a shell script that rebuilds an artifact and all it came from, parents first; --run runs it.

    The script needs the artifacts' nano2.json and the raw data, no recipe file. With --run the rebuilt
    content is compared with the recorded hash after each step, and the first file that differs is named
    (exit 3). An interrupted replay continues with the same command.
    """

    directory: Annotated[Path, Positional()] = Field(description="Artifact to rebuild.")
    into: Path = Field(
        Path("replay"), description="Folder for what is rebuilt: fresh, or of the same replay."
    )
    run: bool = Field(False, description="Run the commands and compare content hashes.")


STAGE = Stage(
    name="replay", kind=None, config=ReplayConfig, run="nano2cli.commands.replay:run", resumable=True
)


def run(config: ReplayConfig, context: StageContext) -> StageResult:
    steps = replay_commands(config.directory, into=config.into)
    script = replay_script(steps)
    data: dict[str, Any] = {"steps": [_describe(step) for step in steps]}
    if not config.run:
        context.reporter.output(script, end="")
        return StageResult(data=data)
    _prepare(config.into, script)
    result = StageResult(data=data)
    for number, step in enumerate(steps, start=1):
        context.reporter.log(f"{number} of {len(steps)}: nano2 {step.original.stage} -> {step.out}")
        _run_step(step, context)
        rebuilt = read_provenance(step.out)
        same = rebuilt is not None and rebuilt.content_hash == step.original.content_hash
        result.rows.append(
            {
                "artifact": step.out.name,
                "stage": step.original.stage,
                "recorded": short_hash(step.original.content_hash or ""),
                "rebuilt": short_hash((rebuilt and rebuilt.content_hash) or ""),
                "same": same,
            }
        )
        if not same:
            result.failure = _difference(step, rebuilt)
            return result
    result.notes.append(f"all {len(steps)} artifacts have the recorded content")
    return result


def _describe(step: ReplayStep) -> dict[str, Any]:
    return {
        "stage": step.original.stage,
        "out": str(step.out),
        "content_hash": step.original.content_hash,
        "command": step.command,
        "environment": step.environment,
        "recipe": step.recipe,
    }


def _prepare(into: Path, script: str) -> None:
    """Make the folder, or recognise that of the same replay by its script."""
    path = into / SCRIPT_FILE
    if into.exists() and any(into.iterdir()) and not (path.is_file() and path.read_text("utf-8") == script):
        raise UsageError(
            "is not empty, and what lies there is not from this replay",
            where=str(into),
            remedy="choose a fresh folder with --into",
        )
    into.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, script)


def _run_step(step: ReplayStep, context: StageContext) -> None:
    """Run one command to its end. A SIGTERM is passed on; a Ctrl-C has reached the command as well."""
    write_text_atomic(step.recipe_file, step.recipe_text)
    torchrun = (
        [] if step.ranks is None else ["torch.distributed.run", "--nproc-per-node", str(step.ranks), "-m"]
    )
    process = subprocess.Popen(
        [sys.executable, "-m", *torchrun, "nano2cli", *step.arguments],
        env=os.environ | step.environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    passed_on = False
    while process.poll() is None:
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if context.stop.signal_name == "SIGTERM" and not passed_on:
                process.terminate()
                passed_on = True
    if context.stop:
        raise InterruptedRunError(
            "the replay was interrupted", where=str(step.out), remedy="the same command continues it"
        )
    if process.returncode != 0:
        raise _ERRORS.get(process.returncode, Nano2Error)(
            f"nano2 {step.original.stage} ended with exit code {process.returncode}",
            where=str(step.out),
            remedy="its own message is above",
        )


def _difference(step: ReplayStep, rebuilt: Provenance | None) -> ArtifactError:
    original = step.original
    if rebuilt is None:
        return ArtifactError(
            "has no nano2.json", where=str(step.out), remedy="run the replay in a fresh folder"
        )
    now, then = rebuilt.versions | _flat(rebuilt.device), original.versions | _flat(original.device)
    changes = [
        f"{name} {then.get(name)} then, {now.get(name)} now" for name in then if then[name] != now.get(name)
    ]
    return ArtifactError(
        f"the rebuilt {first_differing_file(original, rebuilt)} differs from the recorded one",
        where=str(step.out),
        remedy=f"what changed: {'; '.join(changes)}"
        if changes
        else "same versions and device: a stage is not reproducible",
    )


def _flat(device: dict[str, str | int]) -> dict[str, str]:
    return {f"device {key}": str(value) for key, value in device.items()}
