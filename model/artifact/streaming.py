"""Writing a checkpoint that is larger than the memory, a piece of a tensor at a time."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from model.artifact.safetensors_header import TensorInfo, make_header
from model.artifact.sharding import MAX_SHARD_BYTES, fill_shards, shard_names, write_index


def stream_weights(
    tensors: Mapping[str, TensorInfo],
    parts: Callable[[str], Iterable[Tensor]],
    directory: Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write the files that `save_weights` would, to the byte, without ever holding a whole tensor.

    `parts(key)` gives the content of a tensor in pieces, in order; each is written before the next is asked for.

    Raises:
        ValueError: no tensors, or pieces that are not the announced tensor.
        OSError: the disk is full.
    """
    if not tensors:
        raise ValueError("there are no tensors to save")
    shards = list(fill_shards(((key, tensors[key]) for key in sorted(tensors)), max_shard_bytes))
    names = shard_names(len(shards))
    for name, shard in zip(names, shards, strict=True):
        header, order = make_header(shard)
        with (directory / name).open("wb") as file:
            file.write(header)
            for key in order:
                _write_parts(file, key, shard[key], parts(key))
    write_index(dict(zip(names, shards, strict=True)), directory)


def _write_parts(file: BinaryIO, key: str, info: TensorInfo, parts: Iterable[Tensor]) -> None:
    written = 0
    for part in parts:
        if str(part.dtype) != f"torch.{info.dtype}":
            raise ValueError(f"tensor {key} was to be {info.dtype} and is {part.dtype}")
        file.write(part.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        written += part.nbytes
    if written != info.nbytes:
        raise ValueError(f"tensor {key} was to have {info.nbytes} bytes and has {written}")
