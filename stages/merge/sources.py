"""The models of a merge, which must agree in everything but their weights.

The first disagreement is an ArtifactError with both values and both directories.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.artifact.provenance import artifact_kind
from model.artifact.weights import CheckpointFiles
from model.config import HybridConfig
from model.errors import ArtifactError
from model.loading import match_tensors, read_config, stored_dtype
from model.tokenizer_comparison import tokenizer_difference

_OF_FRESH_WEIGHTS = frozenset(
    {"initializer_range", "rescale_prenorm_residual", "dt_init_min", "dt_init_max", "dt_init_floor"}
)
"""Settings that no trained model depends on."""


@dataclass(frozen=True)
class Source:
    """One model. stored_as: the name of each parameter in its files."""

    directory: Path
    files: CheckpointFiles
    stored_as: dict[str, str]

    def dtype(self, name: str) -> torch.dtype:
        return self.files.dtype(self.stored_as[name])

    def elements(self, name: str, span: slice, *, require_finite: bool = False) -> Tensor:
        """[stop - start] of a parameter's flat content; with `require_finite` an ArtifactError where it is not finite."""
        return self.files.elements(self.stored_as[name], span.start, span.stop, require_finite=require_finite)


@dataclass(frozen=True)
class Sources:
    """All models of a merge. dtype: the widest that their config.json name."""

    config: HybridConfig
    dtype: torch.dtype
    models: tuple[Source, ...]

    @property
    def names(self) -> list[str]:
        """The parameters, sorted."""
        return sorted(self.models[0].stored_as)

    @property
    def total_bytes(self) -> int:
        return sum(model.files.total_bytes for model in self.models)

    def shape(self, name: str) -> tuple[int, ...]:
        first = self.models[0]
        return first.files.shape(first.stored_as[name])


def read_sources(directories: Sequence[Path], *, verify_hashes: bool = True) -> Sources:
    """Open the models; with `verify_hashes` their files are compared with what their nano2.json records."""
    first, *others = directories
    for directory in directories:
        _refuse_other_kinds(directory)
    config = read_config(first)
    for other in others:
        _refuse_config_difference(first, config, other)
        if difference := tokenizer_difference(first, other):
            raise ArtifactError(
                f"reads text in another way: {difference}",
                where=str(other),
                remedy="merge models with one tokenizer and one chat template",
            )
    models = tuple(_open(directory, verify_hashes) for directory in directories)
    dtype = stored_dtype(models[0].files, models[0].stored_as)
    for model in models[1:]:
        dtype = torch.promote_types(dtype, stored_dtype(model.files, model.stored_as))
    return Sources(config, dtype, models)


def _open(directory: Path, verify_hashes: bool) -> Source:
    files = CheckpointFiles(directory, verify_hashes=verify_hashes)
    return Source(directory, files, match_tensors(read_config(directory), files))


def _refuse_other_kinds(directory: Path) -> None:
    if not directory.exists():
        raise ArtifactError("does not exist", where=str(directory), remedy="check the path")
    kind = artifact_kind(directory)
    if kind == "reward":
        raise ArtifactError(
            "is a reward model, whose score head has no place in a merge",
            where=str(directory),
            remedy="merge the models that it was trained from, and train its head on the result",
        )
    if kind != "model":
        what = "no artifact" if kind is None else f"an artifact of kind {kind!r}"
        raise ArtifactError(f"is {what}", where=str(directory), remedy="give the directories of models")


def _refuse_config_difference(first: Path, config: HybridConfig, other: Path) -> None:
    theirs = read_config(other)
    for name in HybridConfig.model_fields:
        here, there = getattr(config, name), getattr(theirs, name)
        if here != there and name not in _OF_FRESH_WEIGHTS:
            raise ArtifactError(
                f"is another model: {name} is {here!r} in {first} and {there!r} in {other}",
                where=str(other / "config.json"),
                remedy="merge models of one shape, trained from the same model",
            )
