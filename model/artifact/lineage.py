"""The chain of artifacts behind an artifact, read from the nano2.json of each.

A child records where its inputs lay and what their content was. The content decides: a path whose content
is no longer the recorded one is not taken for the input, and an input that was moved is found by its
content.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from model.artifact.hashing import file_sha256
from model.artifact.provenance import Metric, Parent, Provenance, artifact_kind, current_hash, read_provenance
from model.errors import ArtifactError, Nano2Error

Status = Literal["ok", "changed", "missing", "damaged"]


class LineageNode(BaseModel):
    """One artifact or input of the chain, with what it was made from below it.

    `status` is `missing` if it was found nowhere, `changed` if there is other content at its path than
    recorded, and `damaged` if it cannot be read; `content_hash` is the recorded one in each case. `path` is
    absolute, or as recorded for what is missing. `stage` is None for what nano2 did not make.
    """

    path: str
    kind: str
    content_hash: str
    status: Status = "ok"
    stage: str | None = None
    weight: float | None = None
    metrics: dict[str, Metric] = {}
    parents: list["LineageNode"] = []

    def walk(self) -> Iterator["LineageNode"]:
        """This node and all below it."""
        yield self
        for parent in self.parents:
            yield from parent.walk()


def lineage(directory: Path, *, check: bool = False) -> LineageNode:
    """The chain behind an artifact or a foreign checkpoint.

    Files are compared by name and size with what is recorded, or read and hashed with `check`. Raises
    ArtifactError if there is nothing at `directory` or its nano2.json cannot be read; further up such
    things become a `status`.
    """
    if not directory.exists():
        raise ArtifactError("does not exist", where=str(directory), remedy="pass an artifact's directory")
    finder = InputFinder(check=check)
    provenance = read_provenance(directory)
    now = finder.content_hash(directory)
    recorded = provenance.content_hash if provenance and provenance.content_hash else now
    return LineageNode(
        path=os.path.realpath(directory),
        kind=artifact_kind(directory) or "data",
        content_hash=recorded,
        status="ok" if recorded == now else "changed",
        stage=provenance.stage if provenance else None,
        metrics=provenance.metrics if provenance else {},
        parents=_nodes(directory, provenance, finder, frozenset()),
    )


class InputFinder:
    """Finds the inputs of artifacts wherever they lie now. Hashes a path once; all its bytes with `check`."""

    def __init__(self, *, check: bool = False) -> None:
        self._check = check
        self._hashes: dict[str, str] = {}

    def content_hash(self, path: Path) -> str:
        """As `current_hash`."""
        real = os.path.realpath(path)
        if real not in self._hashes:
            self._hashes[real] = current_hash(path, check=self._check)
        return self._hashes[real]

    def find(self, item: Parent, child: Path, provenance: Provenance) -> tuple[Path | None, Status]:
        """Where an input of the artifact `child` lies, and whether it is what was used.

        Looked for at the recorded path from the child's folder, at the path as it was typed, and among the
        child's siblings by content; the first with the recorded content wins. Failing that, the first that
        exists.
        """
        occupied: tuple[Path, Status] | None = None
        for path in self._candidates(item, child, provenance):
            if not path.exists():
                continue
            try:
                if self.content_hash(path) == item.content_hash:
                    return path, "ok"
                status: Status = "changed"
            except Nano2Error:
                status = "damaged"
            occupied = occupied or (path, status)
        return occupied or (None, "missing")

    def _candidates(self, item: Parent, child: Path, provenance: Provenance) -> Iterator[Path]:
        folder = Path(os.path.realpath(child)).parent
        yield Path(os.path.normpath(folder / item.path))
        for typed in _typed_paths(provenance.config, item.content_hash):
            yield Path(os.path.abspath(typed))
        for path in sorted(folder.iterdir()):
            if not os.path.samefile(path, child) and _claimed_hash(path) == item.content_hash:
                yield path


def _nodes(
    directory: Path, provenance: Provenance | None, finder: InputFinder, above: frozenset[str]
) -> list[LineageNode]:
    if provenance is None:
        return []
    above = above | {os.path.realpath(directory)}
    return [
        _node(item, *finder.find(item, directory, provenance), finder, above) for item in provenance.inputs
    ]


def _node(
    item: Parent, path: Path | None, status: Status, finder: InputFinder, above: frozenset[str]
) -> LineageNode:
    node = LineageNode(
        path=os.path.realpath(path) if path else item.path,
        kind=item.kind,
        content_hash=item.content_hash,
        status=status,
        weight=item.weight,
    )
    # What changed has other parents than the one that was used. And a chain can meet itself, where a stage
    # changed nothing and its output was moved over its input.
    if path is None or status != "ok" or node.path in above:
        return node
    provenance = read_provenance(path)
    if provenance is None:
        held = holder(path)
        return node.model_copy(update={"parents": [_holder_node(held, finder, above)]}) if held else node
    parents = _nodes(path, provenance, finder, above)
    return node.model_copy(
        update={"stage": provenance.stage, "metrics": provenance.metrics, "parents": parents}
    )


def holder(path: Path) -> tuple[Path, Provenance] | None:
    """The artifact that a file lies in as part of its content, with its provenance; None for a file of its own."""
    real = Path(os.path.realpath(path))
    if not real.is_file():
        return None
    for folder in real.parents:
        try:
            provenance = read_provenance(folder)
        except ArtifactError:
            return None
        if provenance is not None:
            record = provenance.files.get(real.relative_to(folder).as_posix())
            same = record is not None and record.sha256 == file_sha256(real)
            return (folder, provenance) if same else None
    return None


def _holder_node(held: tuple[Path, Provenance], finder: InputFinder, above: frozenset[str]) -> LineageNode:
    folder, provenance = held
    recorded = provenance.content_hash or finder.content_hash(folder)
    item = Parent(path=str(folder), kind=provenance.kind, content_hash=recorded)
    return _node(item, folder, "ok" if finder.content_hash(folder) == recorded else "changed", finder, above)


def _claimed_hash(path: Path) -> str | None:
    try:
        provenance = read_provenance(path)
    except ArtifactError:
        return None
    return provenance.content_hash if provenance else None


def is_recorded_input(value: Any) -> bool:
    """Whether a value of a resolved config is an input: `{"path", "content_hash"}`, in a blend `"weight"`."""
    keys = {"path", "content_hash"}
    return isinstance(value, dict) and keys <= value.keys() <= keys | {"weight"}


def _typed_paths(value: Any, content_hash: str) -> Iterator[str]:
    """The paths, as typed, of a resolved config's inputs with this content."""
    if is_recorded_input(value):
        if value["content_hash"] == content_hash:
            yield value["path"]
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _typed_paths(item, content_hash)
