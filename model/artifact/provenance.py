"""nano2.json: what made an artifact, from what, and what the files must be.

A stage's harness fills a `Provenance` and hands it to `write_provenance` as the last file of a staging
directory. Reading it back never trusts the file: every defect is an ArtifactError that names the field.
"""

import json
import math
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from model.artifact.card import model_card
from model.artifact.hashing import combined_hash, content_files, content_hash, file_sha256, hash_files
from model.artifact.staging import PROVENANCE_FILE, write_text_atomic
from model.errors import ArtifactError

SCHEMA_VERSION = 1

Kind = Literal["model", "tokenizer", "dataset", "eval", "bench", "reward"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ContentHash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Metric = bool | int | float | str | None


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Record):
    """One content file of an artifact."""

    sha256: Sha256
    size: NonNegativeInt  # bytes


class Parent(_Record):
    """Something an artifact was made from: another artifact, a foreign checkpoint, or raw data.

    `path` leads there from the folder that holds the artifact, so a tree of artifacts can be moved as a
    whole.
    """

    path: str
    kind: Kind | Literal["data"]
    content_hash: ContentHash
    weight: NonNegativeFloat | None = None


class Provenance(_Record):
    """The content of nano2.json. `files` and `content_hash` are filled by `write_provenance`."""

    schema_version: Literal[1] = 1
    kind: Kind
    stage: str
    content_hash: ContentHash | None = None
    files: dict[str, FileRecord] = {}
    parents: list[Parent] = []
    data: list[Parent] = []
    config: dict[
        str, JsonValue
    ] = {}  # resolved; an input is {"path", "content_hash"} and in a blend "weight"
    command: list[str] = []
    versions: dict[str, str] = {}
    device: dict[str, str | int] = {}
    seed: int | None = None
    metrics: dict[str, Metric] = {}
    created: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    seconds: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _hash_covers_files(self) -> "Provenance":
        if self.content_hash is not None and self.content_hash != combined_hash(
            {name: record.sha256 for name, record in self.files.items()}
        ):
            raise ValueError("content_hash and files contradict each other")
        return self

    @property
    def inputs(self) -> list[Parent]:
        """Parents and data."""
        return [*self.parents, *self.data]


def write_provenance(directory: Path, provenance: Provenance) -> Provenance:
    """Hash the content files, write nano2.json and the model card README.md; returns what was written."""
    sha256_of = hash_files(directory)
    files = {
        name: FileRecord(sha256=sha256, size=(directory / name).stat().st_size)
        for name, sha256 in sha256_of.items()
    }
    written = provenance.model_copy(update={"files": files, "content_hash": combined_hash(sha256_of)})
    write_text_atomic(directory / "README.md", model_card(directory, written))
    # NaN and infinities among the metrics become strings: JSON has no word for them
    text = json.dumps(_without_nan(written.model_dump(mode="json")), indent=2, ensure_ascii=False)
    write_text_atomic(directory / PROVENANCE_FILE, text + "\n")
    return written


def read_provenance(directory: Path) -> Provenance | None:
    """What made the artifact, or None for a directory without nano2.json (or a file).

    Raises ArtifactError, naming the field, for a nano2.json that is damaged or of a newer nano2.
    """
    path = directory / PROVENANCE_FILE
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise _unusable(path, "is not a JSON object")
    version = content.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        raise ArtifactError(
            f"has schema_version {version}, and this nano2 reads up to {SCHEMA_VERSION}",
            where=str(path),
            remedy="upgrade nano2",
        )
    try:
        return Provenance.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        what = f"field {field!r}: {first['msg']}" if field else first["msg"]
        raise _unusable(path, what) from error


def describe_input(path: Path, *, out: Path, content_hash: str, weight: float | None = None) -> Parent:
    """The record of one input of the artifact that will lie at `out`.

    The path is relative to the folder of `out`, or absolute where the two have nothing but the root in
    common.
    """
    real, folder = os.path.realpath(path), os.path.dirname(os.path.realpath(out))
    near = os.path.commonpath([real, folder]) != os.path.sep
    return Parent(
        path=os.path.relpath(real, folder) if near else real,
        kind=artifact_kind(path) or "data",
        content_hash=content_hash,
        weight=weight,
    )


def artifact_kind(path: Path) -> Kind | None:
    """The kind of an artifact, told by its files where it has no nano2.json; None for anything else."""
    if provenance := read_provenance(path):
        return provenance.kind
    if (path / "dataset.json").is_file():
        return "dataset"
    if (path / "config.json").is_file():
        return "model"
    if (path / "tokenizer.json").is_file():
        return "tokenizer"
    return None


def current_hash(path: Path, *, check: bool = False) -> str:
    """The content hash of an artifact or of data as it is now.

    An artifact whose files have the recorded names and sizes is taken at its word, unless `check` has it
    read.
    """
    provenance = None if check else read_provenance(path)
    if provenance and provenance.content_hash and _has_recorded_sizes(path, provenance):
        return provenance.content_hash
    return content_hash(path)


def verify_files(directory: Path, provenance: Provenance, *, only: Collection[str] | None = None) -> None:
    """Compare files with the sizes and sha256 that nano2.json records, all of them or `only` these.

    Raises ArtifactError for the first, in order of name, that is missing, added or changed.
    """
    present = content_files(directory)
    names = sorted({*present, *provenance.files})
    if only is not None:
        names = [name for name in names if name in only]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for name, defect in zip(
            names,
            pool.map(lambda name: _defect(directory, name, provenance.files.get(name)), names),
            strict=True,
        ):
            if defect:
                raise ArtifactError(
                    defect,
                    where=str(directory / name),
                    remedy=f"copy the artifact again, or remove {PROVENANCE_FILE} to use it as it is",
                )


def _defect(directory: Path, name: str, record: FileRecord | None) -> str:
    path = directory / name
    if record is None:
        return f"is not among the files that {PROVENANCE_FILE} records"
    if not path.is_file():
        return f"is missing, though {PROVENANCE_FILE} records it"
    if (size := path.stat().st_size) != record.size:
        return f"has {size} bytes, and {PROVENANCE_FILE} records {record.size}"
    if file_sha256(path) != record.sha256:
        return f"is damaged: its sha256 is not the one that {PROVENANCE_FILE} records"
    return ""


def _has_recorded_sizes(directory: Path, provenance: Provenance) -> bool:
    sizes = {name: (directory / name).stat().st_size for name in content_files(directory)}
    return sizes == {name: record.size for name, record in provenance.files.items()}


def _without_nan(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_nan(item) for key, item in value.items()}
        case list():
            return [_without_nan(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
    return value


def _unusable(path: Path, what: str) -> ArtifactError:
    return ArtifactError(
        what,
        where=str(path),
        remedy="copy the artifact again; without this file it is read as a foreign checkpoint",
    )
