"""The inputs of a stage: found by walking its config, checked, hashed."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from model.errors import ArtifactError
from stages.common.config import StageConfig
from stages.common.reporter import Reporter

_OF_A_MODEL = ("tokenizer.json",)


@dataclass(frozen=True)
class ConfigInput:
    """An input that a config names. `weight` is None outside a blend."""

    field: str
    path: Path
    weight: float | None


@dataclass(frozen=True)
class HashedInput(ConfigInput):
    """An input whose content was read: `content_hash` is `sha256:...`."""

    content_hash: str


def find_inputs(config: StageConfig) -> list[ConfigInput]:
    """Every `InputPath` and `WeightedPath` in the config, in field order, however deep it lies."""
    found: list[ConfigInput] = []
    for name in type(config).model_fields:

        def collect(path: Path, weight: float | None, field: str = name) -> JsonValue:
            found.append(ConfigInput(field, path, weight))
            return None

        config.model_dump(include={name}, context=collect)
    return found


def check_inputs(config: StageConfig) -> list[ConfigInput]:
    """Every input, after a look that it is there. Raises ArtifactError for the first that is missing."""
    inputs = find_inputs(config)
    for item in inputs:
        if not item.path.exists():
            raise _missing(item)
    return inputs


def hash_inputs(config: StageConfig, reporter: Reporter) -> list[HashedInput]:
    """Check that each input is there and hash its content, once for each path.

    Raises ArtifactError for an input that is missing or cannot be read.
    """
    from model.artifact.provenance import current_hash

    inputs = check_inputs(config)
    hashes: dict[Path, str] = {}
    paths = dict.fromkeys(item.path for item in inputs)
    with reporter.progress("reading inputs", total=len(paths), unit="input") as bar:
        for path in paths:
            hashes[path] = current_hash(path)
            bar.update(1)
    return [HashedInput(item.field, item.path, item.weight, hashes[item.path]) for item in inputs]


def verify_inputs(inputs: list[HashedInput]) -> None:
    """Compare every file of the artifacts among the inputs with its recorded sha256, before work is spent on them.

    Of a model only the tokenizer, without which its weights mean nothing: loading them compares them anyway.
    ArtifactError for the first that was changed.
    """
    from model.artifact.provenance import read_provenance, verify_files

    for path in dict.fromkeys(item.path for item in inputs):
        if provenance := read_provenance(path):
            recorded = [name for name in _OF_A_MODEL if name in provenance.files]
            verify_files(path, provenance, only=recorded if provenance.kind == "model" else None)


def _missing(item: ConfigInput) -> ArtifactError:
    remedy = f"check the path given to {item.field!r}"
    parent = item.path.parent
    if item.path.is_symlink():
        remedy = "the link's target does not exist; " + remedy
    elif not parent.exists():
        remedy = f"its folder {parent} does not exist either; " + remedy
    return ArtifactError("no such file or directory", where=str(item.path), remedy=remedy)
