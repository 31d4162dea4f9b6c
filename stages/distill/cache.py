"""A teacher's likeliest tokens on disk: rows of the data, each once, in shards that appear whole or not at all.

DIR/cache.json                  the teacher, the data and the settings that the cache belongs to
DIR/00000/logits.safetensors    of some rows, one after the other: at each token with a label
    ids [n, k] int32, logprobs [n, k + 1] float16 (the last: of all other tokens together);
    and of each row: source (its number in cache.json), row, count (its tokens with a label), checksum

A token takes 6 k + 2 bytes. Half precision is enough: a log-probability is rounded by at most 2^-11 of itself, which changes
the gradient by a logit by at most max_p p |log p| 2^-11 = 1.8e-4, less than bfloat16 weights change the teacher itself. Each
position is scaled to probability 1 when it is read. A row's checksum is compared whenever it is read.
"""

import fcntl
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from model.artifact.staging import staged_directory, write_json
from model.artifact.weights import save_tensors
from model.errors import ArtifactError, UsageError
from stages.common.training.batches import Place

BINDING_FILE, LOCK_FILE, SHARD_FILE = "cache.json", "lock", "logits.safetensors"


def bytes_per_token(k: int) -> int:
    """What a token with a label takes."""
    return 4 * k + 2 * (k + 1)


class Binding(BaseModel):
    """What a cache belongs to. Sources are the content hashes of their rows, held-out ones included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    teacher: str
    teacher_dtype: str
    temperature: float
    top_k: int
    seq_len: int
    sources: dict[str, str]


@dataclass(frozen=True)
class Entry:
    """Of one row, at its n tokens with a label: ids [n, k] int32 and log-probabilities [n, k + 1] float16."""

    ids: Tensor
    logprobs: Tensor

    def checksum(self, place: Place) -> int:
        crc = zlib.crc32(repr(place).encode())
        for tensor in (self.ids, self.logprobs):
            crc = zlib.crc32(tensor.contiguous().numpy().data, crc)
        return crc


@dataclass(frozen=True)
class _Found:
    """Where a row lies: its shard, the tokens before it there, its own, and what they must sum up to."""

    shard: Path
    start: int
    count: int
    checksum: int


class LogitCache:
    """An open cache directory, made if it is not there. `add` is for one process at a time, within `writing`.

    Opening reads what every shard says of its rows. UsageError for a directory that is something else, or a cache of another
    teacher, other data or other settings; ArtifactError for a damaged one.
    """

    def __init__(self, directory: Path, binding: Binding) -> None:
        self.directory, self._binding = directory, binding
        self._sources = sorted(binding.sources)
        self._found: dict[Place, _Found] = {}
        self._claim()
        self._read_shards()

    def __contains__(self, place: Place) -> bool:
        return place in self._found

    def entry(self, place: Place) -> Entry:
        """What the teacher said of a row. ArtifactError if it is damaged."""
        found = self._found[place]
        part = slice(found.start, found.start + found.count)
        with _opened(found.shard) as file:
            entry = Entry(file.get_slice("ids")[part], file.get_slice("logprobs")[part])
        if entry.checksum(place) != found.checksum:
            raise _damaged(found.shard, f"what it says of {place[0]}[{place[1]}] is not what was written")
        return entry

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock of the one writer, and know what others wrote before. UsageError if another process has it."""
        with (self.directory / LOCK_FILE).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    "is being written by another run",
                    where=str(self.directory),
                    remedy="wait for it: what it writes will be used, or give another --cache",
                ) from None
            self._claim()  # another run may have claimed it for something else at the same moment
            self._read_shards()
            yield

    def add(self, places: Sequence[Place], entries: Sequence[Entry]) -> None:
        """Write a shard of these rows."""
        numbers = [int(path.name) for path in self._shards()]
        shard = self.directory / f"{max(numbers, default=-1) + 1:05d}"
        tensors = {
            "ids": torch.cat([entry.ids for entry in entries]),
            "logprobs": torch.cat([entry.logprobs for entry in entries]),
            "source": torch.tensor([self._sources.index(source) for source, _ in places]),
            "row": torch.tensor([row for _, row in places]),
            "count": torch.tensor([len(entry.ids) for entry in entries]),
            "checksum": torch.tensor([e.checksum(p) for e, p in zip(entries, places, strict=True)]),
        }
        with staged_directory(shard) as staging:
            save_tensors(tensors, staging / SHARD_FILE)
        self._read_shard(shard)

    def _shards(self) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if path.name.isdigit())

    def _claim(self) -> None:
        path = self.directory / BINDING_FILE
        self.directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if any(
                entry.name != LOCK_FILE and not entry.name.startswith(".")
                for entry in self.directory.iterdir()
            ):
                raise UsageError(
                    f"is no cache of a teacher's logits (it has no {BINDING_FILE})",
                    where=str(self.directory),
                    remedy="give an empty or new directory to --cache",
                )
            write_json(path, self._binding.model_dump())
        try:
            written = Binding.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, ValidationError) as error:
            raise ArtifactError(
                "is damaged",
                where=str(path),
                remedy=f"remove {self.directory} to have it made anew",
            ) from error
        if difference := _difference(written, self._binding):
            raise UsageError(
                f"keeps the logits of something else: {difference}",
                where=str(self.directory),
                remedy="give another --cache, or remove this one",
            )

    def _read_shards(self) -> None:
        known = {found.shard for found in self._found.values()}
        for shard in self._shards():
            if shard not in known:
                self._read_shard(shard)

    def _read_shard(self, shard: Path) -> None:
        with _opened(shard) as file:
            columns = {
                name: file.get_tensor(name).tolist() for name in ("source", "row", "count", "checksum")
            }
            shapes = [file.get_slice(name).get_shape() for name in ("ids", "logprobs")]
        tokens, k = sum(columns["count"]), self._binding.top_k
        if shapes != [[tokens, k], [tokens, k + 1]] or len({len(column) for column in columns.values()}) != 1:
            raise _damaged(shard, "its tensors do not fit together")
        start = 0
        for source, row, count, checksum in zip(*columns.values(), strict=True):
            if not 0 <= source < len(self._sources):
                raise _damaged(shard, f"names a source {source} of {len(self._sources)}")
            self._found[self._sources[source], row] = _Found(shard, start, count, checksum)
            start += count


def _difference(written: Binding, wanted: Binding) -> str | None:
    """The first thing in which two bindings differ, with both values."""
    there, here = ({**b.model_dump(exclude={"sources"}), **b.sources} for b in (written, wanted))
    for name in {**here, **there}:
        if there.get(name) != here.get(name):
            return f"{name} is {there.get(name)} there and {here.get(name)} here"
    return None


@contextmanager
def _opened(shard: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(shard / SHARD_FILE, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise _damaged(shard, f"cannot be read ({error})") from error


def _damaged(shard: Path, what: str) -> ArtifactError:
    return ArtifactError(
        what, where=str(shard), remedy="remove this directory: the same command computes its rows anew"
    )
