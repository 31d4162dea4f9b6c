"""Making the runs of an experiment: `nano2` commands, several at a time, each after those it needs.

A run's resolved settings lie as a recipe beside its artifact, so that each can be repeated by hand. A finished artifact is
not made again, and one that was interrupted goes on, as `nano2` itself does.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import yaml

from model.errors import Nano2Error, UsageError
from stages.common.experiments.spec import Experiment, MadeRun


class FailedRunError(Nano2Error):
    """A command of the experiment failed; what it said is in the log."""


def make_runs(experiment: Experiment, folder: Path, jobs: int, log: Callable[[str], None]) -> None:
    """Make every artifact below `folder`, `jobs` at a time. FailedRunError at the first command that fails; those beside it
    end first."""
    folder.mkdir(parents=True, exist_ok=True)
    waiting = experiment.made()
    total = len(waiting)
    going: dict[Future[None], str] = {}
    done: set[str] = set()
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or going:
            for name in [name for name, run in waiting.items() if run.needs <= done]:
                if len(going) < jobs:
                    going[pool.submit(_make, waiting.pop(name), folder, experiment.threads)] = name
            for future in wait(going, return_when=FIRST_COMPLETED).done:
                future.result()
                name = going.pop(future)
                done.add(name)
                log(f"{len(done)} of {total}: {name}")


def _make(run: MadeRun, folder: Path, threads: int) -> None:
    out, recipe, output = folder / run.name, folder / f"{run.name}.yaml", folder / f"{run.name}.log"
    settings = all_settings(run, folder)
    recipe.write_text(yaml.safe_dump({"stage": run.stage, **settings}, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "nano2cli", *run.stage.split(), "--config", str(recipe), "-o", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with output.open("w", encoding="utf-8") as file:
        code = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
        ).returncode
    if code:
        last = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        raise FailedRunError(
            f"{run.name} failed with exit code {code}: {' / '.join(last)}",
            where=str(output),
            remedy="correct the cause and run the experiment again; finished runs are kept",
        )


def all_settings(run: MadeRun, folder: Path) -> dict[str, Any]:
    """The settings of a run's recipe and over them its own. UsageError if the recipe cannot be read."""
    return {**_settings_of(run.recipe), **run.resolved(folder)}


def _settings_of(recipe: Path | None) -> Mapping[str, Any]:
    if recipe is None:
        return {}
    try:
        settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(
            f"cannot be read ({error})", where=str(recipe), remedy="correct the recipe"
        ) from error
    return {key: value for key, value in settings.items() if key != "stage"}
