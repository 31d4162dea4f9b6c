"""How a checkpoint's tensors are spread over files: the names of the files, and the index of those of many."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from model.artifact.safetensors_header import TensorInfo
from model.artifact.staging import write_json

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000


class _HasSize(Protocol):
    @property
    def nbytes(self) -> int: ...


_Sized = TypeVar("_Sized", bound=_HasSize)


def fill_shards(pairs: Iterable[tuple[str, _Sized]], max_shard_bytes: int) -> Iterator[dict[str, _Sized]]:
    """Tensors, or what is known of them, in the order in which they come, at most `max_shard_bytes` a shard.

    A larger one has a shard of its own. ValueError for a key that comes twice in a shard.
    """
    shard: dict[str, _Sized] = {}
    size = 0
    for key, tensor in pairs:
        if key in shard:
            raise ValueError(f"tensor {key} came twice")
        if shard and size + tensor.nbytes > max_shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[key] = tensor
        size += tensor.nbytes
    if shard:
        yield shard


def shard_names(count: int) -> list[str]:
    if count == 1:
        return [WEIGHTS_FILE]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def write_index(shards: Mapping[str, Mapping[str, TensorInfo]], directory: Path) -> None:
    """The index of shards by name; nothing where one file holds all."""
    if len(shards) == 1:
        return
    infos = [info for shard in shards.values() for info in shard.values()]
    metadata = {
        "total_parameters": sum(info.count for info in infos),
        "total_size": sum(info.nbytes for info in infos),
    }
    weight_map = {key: name for name, shard in shards.items() for key in shard}
    write_json(directory / INDEX_FILE, {"metadata": metadata, "weight_map": weight_map})
