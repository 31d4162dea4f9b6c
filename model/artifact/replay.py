"""The commands that rebuild an artifact from its raw data: every ancestor once, parents first.

Each step is a recipe, the resolved settings that nano2.json records with the inputs' paths put in place,
and the command that runs it. Nothing but the artifacts themselves is needed: no recipe file, no shell
history.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.artifact.hashing import short_hash
from model.artifact.lineage import InputFinder, holder, is_recorded_input
from model.artifact.provenance import Provenance, read_provenance
from model.artifact.staging import artifact_name
from model.errors import ArtifactError

_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that JSON leaves in a string, and YAML takes for line breaks or refuses."""


_TORCHRUN = ("torchrun", "--nproc-per-node")


@dataclass(frozen=True)
class ReplayStep:
    """One command of a replay.

    out: where the rebuilt artifact will lie. recipe: the stage's settings, for `--config`.
    original: the provenance of the artifact to rebuild.
    """

    out: Path
    recipe: dict[str, Any]
    original: Provenance

    @property
    def recipe_file(self) -> Path:
        return self.out.with_name(self.out.name + ".yaml")

    @property
    def recipe_text(self) -> str:
        """YAML, with each value as JSON, which every YAML reader reads alike."""
        settings = {"stage": self.original.stage, **self.recipe}
        return "".join(f"{name}: {_json_in_yaml(value)}\n" for name, value in settings.items())

    @property
    def arguments(self) -> list[str]:
        """What follows `nano2` on the command line."""
        return [*self.original.stage.split(), "--config", str(self.recipe_file), "-o", str(self.out)]

    @property
    def ranks(self) -> int | None:
        """As how many processes torchrun started it, among which sums are split; None: as one, without torchrun."""
        ranks = self.original.device.get("ranks")
        return None if ranks is None else int(ranks)

    @property
    def command(self) -> list[str]:
        """The words of the command line."""
        launcher = ["nano2"] if self.ranks is None else [*_TORCHRUN, str(self.ranks), "-m", "nano2cli"]
        return [*launcher, *self.arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Variables on which the bits depend: sums on a CPU are split by thread."""
        threads = self.original.device.get("threads")
        return {} if threads is None else {"OMP_NUM_THREADS": str(threads)}

    def shell(self) -> str:
        """Shell commands that write the recipe and run the step."""
        device = " ".join(
            str(self.original.device[key]) for key in ("type", "name") if key in self.original.device
        )
        variables = "".join(f"{name}={value} " for name, value in self.environment.items())
        return (
            f"# {self.original.kind} {short_hash(self.original.content_hash or '')}"
            f"{f', made on {device}' if device else ''}\n"
            f"cat > {shlex.quote(str(self.recipe_file))} <<'RECIPE'\n{self.recipe_text}RECIPE\n"
            f"{variables}{shlex.join(self.command)}\n"
        )


def replay_commands(directory: Path, *, into: Path) -> list[ReplayStep]:
    """The steps that rebuild the artifact at `directory` in the folder `into`, parents first, each once.

    What nano2 did not make is used where it lies. Raises ArtifactError if an input is missing or has
    changed, or nano2 did not make the artifact.
    """
    if not directory.exists():
        raise ArtifactError("does not exist", where=str(directory), remedy="pass an artifact's directory")
    provenance = read_provenance(directory)
    if provenance is None:
        raise ArtifactError(
            "cannot be rebuilt: it has no nano2.json, so nano2 did not make it",
            where=str(directory),
            remedy="pass an artifact made by nano2",
        )
    steps: dict[str, ReplayStep] = {}
    _add_step(directory, provenance, Path(os.path.abspath(into)), InputFinder(), steps)
    return list(steps.values())


def replay_script(steps: list[ReplayStep]) -> str:
    """A POSIX shell script of all steps."""
    folder = steps[0].out.parent
    parts = [f"set -eu\nmkdir -p {shlex.quote(str(folder))}\n", *(step.shell() for step in steps)]
    return "\n".join(parts)


def first_differing_file(original: Provenance, rebuilt: Provenance) -> str | None:
    """The first content file, in order of name, that two artifacts do not share; None if they share all."""
    for name in sorted({*original.files, *rebuilt.files}):
        if original.files.get(name) != rebuilt.files.get(name):
            return name
    return None


def _add_step(
    directory: Path, provenance: Provenance, into: Path, finder: InputFinder, steps: dict[str, ReplayStep]
) -> Path:
    """Append the step for an artifact, after those for its inputs; where it will lie."""
    real = os.path.realpath(directory)
    if real in steps:
        return steps[real].out
    places: dict[str, str] = {}  # content hash of an input: where the replay finds it
    for item in provenance.inputs:
        path, status = finder.find(item, directory, provenance)
        if path is None or status != "ok":
            raise ArtifactError(
                f"cannot be rebuilt: its input {item.path} "
                f"({item.kind} {short_hash(item.content_hash)}) is {status}",
                where=str(directory),
                remedy="put it back where it was, or beside the artifact",
            )
        places[item.content_hash] = str(_place(path, into, finder, steps))
    taken = {step.out.name for step in steps.values()}
    name = free = artifact_name(Path(real))
    number = 2
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    steps[real] = ReplayStep(into / free, _with_places(provenance.config, places), provenance)
    return into / free


def _place(path: Path, into: Path, finder: InputFinder, steps: dict[str, ReplayStep]) -> Path:
    """Where a replay finds an input: what nano2 made is made again, as is the artifact that a file lies in."""
    if provenance := read_provenance(path):
        return _add_step(path, provenance, into, finder, steps)
    if held := holder(path):
        folder, provenance = held
        return _add_step(folder, provenance, into, finder, steps) / Path(os.path.realpath(path)).relative_to(
            folder
        )
    return Path(os.path.abspath(path))


def _json_in_yaml(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _with_places(value: Any, places: Mapping[str, str]) -> Any:
    """A resolved config as a recipe: each input by the path where the replay finds its content."""
    if is_recorded_input(value):
        path = places.get(value["content_hash"], value["path"])
        return {"path": path, "weight": value["weight"]} if "weight" in value else path
    if isinstance(value, dict):
        return {key: _with_places(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_places(item, places) for item in value]
    return value
