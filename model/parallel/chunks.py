"""Pieces of parameters for torch.distributed.checkpoint, named and placed so that any mesh writes and reads the same state.

An entry is a parameter, or one of the parts that a parameter holds side by side (`in_proj.weight` makes `in_proj.weight.0`,
z, to `in_proj.weight.4`, dt). Of each entry a rank has one rectangle at most.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

from model.parallel.shards import is_sharded, local
from model.parallel.tensor import Split

if TYPE_CHECKING:
    from model.parallel.mesh import Mesh


class Chunk(torch.Tensor):
    """A rank's rectangle of an entry, in the protocol of torch.distributed.checkpoint for sharded tensors: a tensor of the
    entry's shape, of which `held` lies here at `offsets`."""

    held: Tensor
    offsets: torch.Size

    @staticmethod
    def of(held: Tensor, offsets: Sequence[int], whole: Sequence[int]) -> "Chunk":
        """`held`, which is shared and not copied, in an entry of shape `whole`."""
        chunk: Chunk = torch.Tensor._make_wrapper_subclass(
            Chunk, torch.Size(whole), dtype=held.dtype, device=held.device
        )
        chunk.held, chunk.offsets = held, torch.Size(offsets)
        return chunk

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        raise NotImplementedError(f"{func}: a chunk is saved and loaded, not computed with")

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [ChunkStorageMetadata(self.offsets, self.held.shape)] if self.held.numel() else []

    def __create_write_items__(self, name: str, _: object) -> list[WriteItem]:
        properties = TensorProperties.create_from_tensor(self.held)
        return [
            WriteItem(
                index=MetadataIndex(name, chunk.offsets),
                type=WriteItemType.SHARD,
                tensor_data=TensorWriteData(chunk=chunk, properties=properties, size=self.shape),
            )
            for chunk in self.__create_chunk_list__()
        ]

    def __get_tensor_shard__(self, _: MetadataIndex) -> Tensor:
        return self.held


def entries(
    name: str, tensor: Tensor, split: Split | None, mesh: "Mesh | None"
) -> Iterator[tuple[str, Tensor]]:
    """What of a parameter, or of a tensor like it, lies here. `split`: how tensor ranks cut it; None: they have it whole."""
    if mesh is None:
        parts = [tensor] if split is None else tensor.split(split.sizes, split.dim)
        yield from zip(_names(name, split), parts, strict=True)
        return
    held, first_row = local(tensor), _first_row(tensor, mesh)
    ranks, rank = (1, 0) if mesh.tensor is None else (mesh.tensor.size, mesh.tensor.rank)
    if split is None or split.dim != 0:
        whole = list(tensor.shape)
        offsets = [first_row] + [0] * (held.dim() - 1)
        if split is not None:
            whole[split.dim] *= ranks
            offsets[split.dim] = rank * tensor.shape[split.dim]
        yield name, Chunk.of(held, tuple(offsets), tuple(whole))
        return
    start = 0  # of a part, in the rows that the tensor rank holds
    for entry, size in zip(_names(name, split), split.sizes, strict=True):
        rows = size // ranks
        low = min(max(start, first_row), first_row + len(held))
        high = max(low, min(start + rows, first_row + len(held)))
        chunk = held[low - first_row : high - first_row]
        offset = rank * rows + (low - start if len(chunk) else 0)
        yield entry, Chunk.of(chunk, (offset, *[0] * (held.dim() - 1)), (size, *held.shape[1:]))
        start += rows


def _names(name: str, split: Split | None) -> list[str]:
    parts = 1 if split is None else len(split.sizes)
    return [name] if parts == 1 else [f"{name}.{number}" for number in range(parts)]


def _first_row(tensor: Any, mesh: "Mesh") -> int:
    """Of the rows that a tensor rank holds, the first that FSDP left here: it cuts as `torch.chunk` does."""
    if not is_sharded(tensor):
        return 0
    rows = -(-tensor.shape[0] // mesh.sharding.size())
    return min(rows * mesh.sharding.get_local_rank(), tensor.shape[0])
