"""Content hashes: what an artifact is, whatever its name, age and place.

A file's hash is its sha256. A directory's covers the relative path and the sha256 of each content file in
order of path. What describes or accompanies the content is left out, so that a rebuilt artifact has the
hash of the first.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from model.artifact.staging import PROVENANCE_FILE
from model.errors import ArtifactError

_NOT_CONTENT = frozenset({PROVENANCE_FILE, "metrics.jsonl", "README.md", "tensorboard"})


def file_sha256(path: Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits. ArtifactError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def content_hash(path: Path) -> str:
    """`sha256:...` of a file's bytes or a directory's content files. ArtifactError if there is nothing."""
    if path.is_dir():
        return combined_hash(hash_files(path))
    return f"sha256:{file_sha256(path)}"


def content_files(directory: Path) -> list[str]:
    """Relative POSIX paths of a directory's content files, sorted.

    Not content: nano2.json, metrics.jsonl, README.md, tensorboard/ and *.log at the top, hidden files and
    folders anywhere. Symbolic links count as what they point to, as in the cache of the Hugging Face hub.
    """
    return sorted(path.relative_to(directory).as_posix() for path in _walk(directory, directory, frozenset()))


def hash_files(directory: Path) -> dict[str, str]:
    """The sha256 of each content file by relative path, several files at a time."""
    names = content_files(directory)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(names, pool.map(lambda name: file_sha256(directory / name), names), strict=True))


def combined_hash(sha256_of: Mapping[str, str]) -> str:
    """`sha256:...` over files given by relative path and sha256. Paths hold no NUL: no two lists collide."""
    digest = hashlib.sha256()
    for name in sorted(sha256_of):
        digest.update(f"{sha256_of[name]} {name}\0".encode())
    return f"sha256:{digest.hexdigest()}"


def short_hash(content_hash: str) -> str:
    """The first 12 digits, for people to read."""
    return content_hash.removeprefix("sha256:")[:12]


def is_content(relative: PurePosixPath) -> bool:
    """Whether a file at this path of an artifact counts as its content."""
    top = relative.parts[0]
    if top in _NOT_CONTENT or (len(relative.parts) == 1 and relative.suffix == ".log"):
        return False
    return not any(part.startswith(".") for part in relative.parts)


def _walk(folder: Path, root: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that contains it
        return
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from error
    for path in entries:
        if not is_content(PurePosixPath(path.relative_to(root))):
            continue
        if path.is_dir():
            yield from _walk(path, root, above | {real})
        else:
            yield path


def _unreadable(path: Path, error: OSError) -> ArtifactError:
    if isinstance(error, FileNotFoundError):
        return ArtifactError("does not exist", where=str(path), remedy="check the path")
    return ArtifactError(
        f"cannot be read ({error.strerror})", where=str(path), remedy="check its permissions and the disk"
    )
