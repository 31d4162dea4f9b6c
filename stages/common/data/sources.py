"""Which files a `PATH` of `-d PATH[:weight]` stands for, and what the source is called."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.artifact.hashing import content_files
from model.errors import ArtifactError, UsageError

READABLE_SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
_WILDCARDS = re.compile(r"[*?\[]")
_HELD_OUT = {"dev", "test", "val", "valid", "validation"}
"""Files of these names beside one called train are its held-out parts."""


@dataclass(frozen=True)
class Source:
    """A named corpus: the files that hold it, in reading order, and its weight in a blend.

    A file is one of `READABLE_SUFFIXES`, or a directory written by `datasets.Dataset.save_to_disk`.
    """

    name: str
    files: tuple[Path, ...]
    weight: float = 1.0


def resolve_sources(paths: Iterable[tuple[Path, float]]) -> list[Source]:
    """Sources of the given (path, weight) pairs, in order, with unique names.

    A path is a file, a directory (all readable files below it) or a glob pattern; each is one source. A
    second source of one name is called NAME_2, and so on.

    Raises:
        UsageError: a weight that is not positive, or a file given twice.
        ArtifactError: a path that is missing or holds nothing readable.
    """
    sources = []
    for path, weight in paths:
        if not 0 < weight < float("inf"):
            raise UsageError(
                f"weight {weight:g} is not a positive number",
                where=str(path),
                remedy="give each source a weight above 0, or leave the source out",
            )
        sources.append(Source(_name(path), _files(path), weight))
    if not sources:
        raise UsageError("no data given", remedy="name at least one source: -d PATH[:weight]")
    _refuse_repeated_files(sources)
    return _with_unique_names(sources)


def files_of_pattern(path: Path) -> tuple[Path, ...]:
    """The readable files that `path` matches as a glob pattern, sorted; none where it is no pattern or exists."""
    if path.exists() or not _WILDCARDS.search(str(path)):
        return ()
    found = (Path(name) for name in sorted(glob.glob(str(path), recursive=True)))
    return tuple(file for file in found if _is_readable(file) or is_saved_dataset(file))


def is_saved_dataset(path: Path) -> bool:
    """Whether `path` is a directory in the layout of `datasets.Dataset.save_to_disk`."""
    return (path / "state.json").is_file() and (path / "dataset_info.json").is_file()


def _is_readable(path: Path) -> bool:
    return path.name.endswith(READABLE_SUFFIXES)


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_dir():
        return _files_of_directory(path)
    if path.exists():
        if not _is_readable(path):
            raise ArtifactError(
                "is no kind of text file that can be read",
                where=str(path),
                remedy=f"use {', '.join(READABLE_SUFFIXES)}",
            )
        return (path,)
    files = files_of_pattern(path)
    if not files:
        raise ArtifactError(
            "no such file or directory, nor a pattern that matches any text",
            where=str(path),
            remedy=f"check the path; text is in {', '.join(READABLE_SUFFIXES)}",
        )
    return files


def _files_of_directory(path: Path) -> tuple[Path, ...]:
    if is_saved_dataset(path):
        return (path,)
    if (path / "dataset_dict.json").is_file():
        raise ArtifactError(
            "is a dataset of several splits",
            where=str(path),
            remedy=f"name one split, such as {path / 'train'}",
        )
    if (path / "dataset.json").is_file():
        raise ArtifactError(
            "is a packed dataset, not text", where=str(path), remedy="give the text that it was prepared from"
        )
    # Just what the harness hashes as the directory's content, so that provenance covers all that is read.
    files = tuple(path / name for name in content_files(path) if name.endswith(READABLE_SUFFIXES))
    if not files:
        raise ArtifactError(
            "the directory holds no text",
            where=str(path),
            remedy=f"put {', '.join(READABLE_SUFFIXES)} files in it",
        )
    parts = {file.name.split(".")[0]: file for file in files if file.parent == path}
    if "train" in parts and (held_out := _HELD_OUT & parts.keys()):
        raise ArtifactError(
            f"holds train and {' and '.join(sorted(held_out))}: what is kept for measuring would be read as well",
            where=str(path),
            remedy=f"name one file, such as {parts['train']}",
        )
    return files


def _name(path: Path) -> str:
    stem = path.name
    for suffix in sorted(READABLE_SUFFIXES, key=len, reverse=True):
        stem = stem.removesuffix(suffix)
    if _WILDCARDS.search(stem):
        stem = _WILDCARDS.split(stem, maxsplit=1)[0].rstrip("_-.0123456789")
    return _clean(stem) or _clean(path.absolute().parent.name) or "data"


def _clean(name: str) -> str:
    """A name that is safe as a folder name and in a recipe's keys."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._")


def _refuse_repeated_files(sources: Sequence[Source]) -> None:
    owner: dict[Path, str] = {}
    for source in sources:
        for file in source.files:
            if file.resolve() in owner:
                raise UsageError(
                    "the file is given twice",
                    where=str(file),
                    remedy="give it once, with the weight it should have",
                )
            owner[file.resolve()] = source.name


def _with_unique_names(sources: Sequence[Source]) -> list[Source]:
    unique: dict[str, Source] = {}
    for source in sources:
        name, number = source.name, 1
        while name in unique:
            number += 1
            name = f"{source.name}_{number}"
        unique[name] = Source(name, source.files, source.weight)
    return list(unique.values())
