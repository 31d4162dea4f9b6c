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

from model.artifact.provenance import read_provenance
from model.artifact.staging import PROVENANCE_FILE
from model.errors import Nano2Error, UsageError
from stages.common.experiments.spec import Experiment, MadeRun


class FailedRunError(Nano2Error):
    """A command of the experiment failed; what it said is in the log."""


def make_runs(
    experiment: Experiment,
    folder: Path,
    jobs: int,
    log: Callable[[str], None],
    *,
    as_recorded: bool = False,
) -> None:
    """Make every artifact below `folder`, `jobs` at a time.

    as_recorded: what is finished stays as its nano2.json records it, see `left_to_make`; otherwise `nano2` compares each
    with its inputs. FailedRunError for the first command that failed, once all that do not need it are made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = left_to_make(experiment, folder) if as_recorded else experiment.made()
    done = experiment.made().keys() - waiting.keys()
    total = len(done) + len(waiting)
    if done:
        log(f"{len(done)} of {total} are finished")
    going: dict[Future[None], str] = {}
    failed: list[FailedRunError] = []
    with ThreadPoolExecutor(jobs) as pool:
        while True:
            for name in [name for name, run in waiting.items() if run.needs <= done]:
                if len(going) < jobs:
                    going[pool.submit(_make, waiting.pop(name), folder, experiment.threads)] = name
            if not going:
                break
            for future in wait(going, return_when=FIRST_COMPLETED).done:
                name = going.pop(future)
                try:
                    future.result()
                except FailedRunError as error:
                    failed.append(error)
                    log(str(error))
                    continue
                done.add(name)
                log(f"{len(done)} of {total}: {name}")
    if failed:
        raise failed[0]


def left_to_make(experiment: Experiment, folder: Path) -> dict[str, MadeRun]:
    """The runs that are not finished, by name, and finished ones whose files they need and are not there.

    A run is finished if its artifact's nano2.json is there, which may be alone, and it was made by the same recipe from
    finished runs: the recipe beside it says the same and is no newer, as one that an existing artifact refused would be. So
    an experiment goes on where its figures were brought along and its inputs and weights were not.
    """
    runs = experiment.made()
    finished: set[str] = set()
    for name, run in runs.items():
        recipe, record = folder / f"{name}.yaml", folder / name / PROVENANCE_FILE
        if (
            run.needs <= finished
            and read_provenance(folder / name) is not None
            and recipe.is_file()
            and recipe.stat().st_mtime <= record.stat().st_mtime
            and yaml.safe_load(recipe.read_text(encoding="utf-8")) == recipe_of(run, folder)
        ):
            finished.add(name)
    needed = runs.keys() - finished
    for name, run in reversed(runs.items()):
        if name in needed:
            needed |= {other for other in run.needs if not _has_files(folder / other)}
    return {name: run for name, run in runs.items() if name in needed}


def _has_files(artifact: Path) -> bool:
    """Whether a finished artifact has the files that its nano2.json names."""
    provenance = read_provenance(artifact)
    return provenance is not None and all((artifact / name).is_file() for name in provenance.files)


def _make(run: MadeRun, folder: Path, threads: int) -> None:
    out, recipe, output = folder / run.name, folder / f"{run.name}.yaml", folder / f"{run.name}.log"
    recipe.write_text(yaml.safe_dump(recipe_of(run, folder), sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "nano2cli", *run.stage.split(), "--config", str(recipe), "-o", str(out)]
    if out.is_dir() and not _has_files(out):
        command.append("--overwrite")  # its nano2.json was brought along without the rest
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


def recipe_of(run: MadeRun, folder: Path) -> dict[str, Any]:
    """The recipe that lies beside a run's artifact. UsageError if the one it builds on cannot be read."""
    return {"stage": run.stage, **all_settings(run, folder)}


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
