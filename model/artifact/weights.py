"""Model weights on disk: safetensors in one file, or in shards with an index, as transformers reads them.

    model.safetensors
    model-00001-of-00003.safetensors ... and model.safetensors.index.json, which maps each tensor to its shard

Writing is deterministic to the byte and holds one shard in memory (`streaming` a piece of a tensor); reading opens files
lazily. No pickle.
"""

import errno
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.artifact.provenance import read_provenance, verify_files
from model.artifact.safetensors_header import TensorInfo, read_header
from model.artifact.sharding import (
    INDEX_FILE,
    MAX_SHARD_BYTES,
    WEIGHTS_FILE,
    fill_shards,
    shard_names,
    write_index,
)
from model.errors import ArtifactError

if TYPE_CHECKING:
    import torch

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def save_weights(
    tensors: "Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]",
    directory: Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write tensors into a (staging) directory as one file, or as shards of at most `max_shard_bytes`.

    Shards are filled in order of key; pairs from an iterable in the order they come. Either may make its
    tensors when they are asked for: those of one shard are held at a time. A tensor larger than a shard
    gets its own. Tied or strided tensors are written out in full.

    Raises:
        ValueError: no tensors, or a key twice.
        OSError: the disk is full.
    """
    if isinstance(tensors, Mapping):
        pairs: Iterable[tuple[str, torch.Tensor]] = ((key, tensors[key]) for key in sorted(tensors))
    else:
        pairs = tensors
    shards: list[dict[str, TensorInfo]] = []
    for shard in fill_shards(pairs, max_shard_bytes):
        shards.append({key: _info(tensor) for key, tensor in shard.items()})
        save_tensors(shard, directory / _unnamed_shard(len(shards)))

    infos = [(key, info) for shard_infos in shards for key, info in shard_infos.items()]
    keys = {key for key, _ in infos}
    if not keys:
        raise ValueError("there are no tensors to save")
    if len(keys) < len(infos):
        raise ValueError("a tensor's key came twice")
    names = shard_names(len(shards))
    for number, name in enumerate(names, start=1):
        (directory / _unnamed_shard(number)).rename(directory / name)
    write_index(dict(zip(names, shards, strict=True)), directory)


class CheckpointFiles:
    """The weights of a checkpoint directory, opened lazily.

    Opening reads the headers of all files and compares them with the index; with `verify_hashes` and a
    nano2.json it first compares these files and config.json with the sha256 recorded there. Every defect is
    an ArtifactError that names the file, and the tensor where there is one.
    """

    def __init__(self, directory: Path, *, verify_hashes: bool = True) -> None:
        self.directory = directory
        self.files = _weight_files(directory)
        if verify_hashes and (provenance := read_provenance(directory)):
            names = [*(path.name for path in self.files), INDEX_FILE, "config.json"]
            verify_files(directory, provenance, only=names)
        self._info: dict[str, TensorInfo] = {}
        self._file: dict[str, Path] = {}
        for path in self.files:
            for key, info in read_header(path).items():
                if key in self._file:
                    raise _damaged(path, f"holds tensor {key}, which {self._file[key].name} holds already")
                self._info[key], self._file[key] = info, path
        if self.files[0].name != WEIGHTS_FILE:
            self._compare_with_index()
        self._open: dict[Path, Any] = {}

    def keys(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self._info)

    def info(self, key: str) -> TensorInfo:
        """Dtype (torch's name), shape and bytes of a tensor, without importing torch."""
        if key not in self._info:
            raise ArtifactError(
                f"there is no tensor {key}",
                where=str(self.directory),
                remedy="check that config.json and the weights belong together",
            )
        return self._info[key]

    def shape(self, key: str) -> tuple[int, ...]:
        return self.info(key).shape

    def dtype(self, key: str) -> "torch.dtype":
        import torch

        dtype = getattr(torch, self.info(key).dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype

    def file(self, key: str) -> Path:
        """The file that holds a tensor."""
        self.info(key)
        return self._file[key]

    def tensor(self, key: str, *, require_finite: bool = False) -> "torch.Tensor":
        """Read one tensor to the CPU. With `require_finite` a NaN or infinity in it is an ArtifactError."""
        from safetensors import SafetensorError, safe_open

        path = self.file(key)
        try:
            if path not in self._open:
                self._open[path] = safe_open(path, framework="pt")
            tensor: torch.Tensor = self._open[path].get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise _damaged(path, f"cannot be read at tensor {key} ({error})") from error
        if require_finite:
            _refuse_non_finite(key, tensor, path)
        return tensor

    def elements(self, key: str, start: int, stop: int, *, require_finite: bool = False) -> "torch.Tensor":
        """[stop - start] elements of a tensor's flat content, read into memory of their own: no page of the file stays."""
        import torch

        path, info = self.file(key), self.info(key)
        read = torch.empty(stop - start, dtype=self.dtype(key))
        buffer = read.view(torch.uint8).numpy().data
        try:
            with path.open("rb") as file:
                file.seek(info.start + start * read.itemsize)
                count = file.readinto(buffer)
        except OSError as error:
            raise _damaged(path, f"cannot be read at tensor {key} ({error.strerror})") from error
        if count < read.nbytes:
            raise _damaged(path, f"is cut short in tensor {key}")
        if require_finite:
            _refuse_non_finite(key, read, path)
        return read

    def tensors(self, *, require_finite: bool = False) -> "Iterator[tuple[str, torch.Tensor]]":
        """All tensors, one at a time, in order of key."""
        for key in self.keys():
            yield key, self.tensor(key, require_finite=require_finite)

    @property
    def total_parameters(self) -> int:
        return sum(info.count for info in self._info.values())

    @property
    def total_bytes(self) -> int:
        return sum(info.nbytes for info in self._info.values())

    def _compare_with_index(self) -> None:
        index = self.directory / INDEX_FILE
        weight_map = _read_index(index)
        for key, name in weight_map.items():
            if key not in self._file or self._file[key].name != name:
                raise _damaged(index, f"says that {name} holds tensor {key}, but it does not")
        for key, path in self._file.items():
            if key not in weight_map:
                raise _damaged(index, f"does not list tensor {key}, which {path.name} holds")


def save_tensors(shard: "Mapping[str, torch.Tensor]", path: Path) -> None:
    """Write one safetensors file; equal tensors in equal order are equal bytes. OSError if the disk is full."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    written: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for key in sorted(shard):
        tensor = shard[key].detach().cpu().contiguous()
        if (storage := tensor.untyped_storage().data_ptr()) in storages:
            tensor = tensor.clone()  # safetensors refuses tensors that share memory
        storages.add(storage)
        written[key] = tensor
    try:
        save_file(written, path, metadata={"format": "pt"})
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):  # the library reports the system's errors as text only
            raise OSError(errno.ENOSPC, "No space left on device", str(path)) from error
        raise
    # The library writes for the owner alone; whoever may read the directory is to read the weights.
    path.chmod(path.parent.stat().st_mode & 0o666)


def _info(tensor: "torch.Tensor") -> TensorInfo:
    return TensorInfo.of(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _unnamed_shard(number: int) -> str:
    return f".shard-{number:05d}.safetensors"  # until the number of shards is known


def _weight_files(directory: Path) -> list[Path]:
    """The single file, or the shards that the index names, in order of name."""
    if not directory.is_dir():
        what = (
            "is a file, where a checkpoint directory is expected" if directory.exists() else "does not exist"
        )
        raise ArtifactError(what, where=str(directory), remedy="pass the directory that holds config.json")
    if (single := directory / WEIGHTS_FILE).is_file():
        return [single]
    index = directory / INDEX_FILE
    if index.is_file():
        paths = [directory / name for name in sorted(set(_read_index(index).values()))]
        for path in paths:
            if not path.is_file():
                raise ArtifactError(
                    f"the shard is missing, though {INDEX_FILE} names it",
                    where=str(path),
                    remedy="copy or download the whole checkpoint again",
                )
        return paths
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickles:
        raise ArtifactError(
            f"holds only pickled weights ({pickles[0]}), which nano2 does not open: a pickle can run code",
            where=str(directory),
            remedy="convert them to safetensors: load the model in transformers and save_pretrained it",
        )
    raise ArtifactError(
        f"holds no weights (neither {WEIGHTS_FILE} nor {INDEX_FILE})",
        where=str(directory),
        remedy="pass the directory of a safetensors checkpoint",
    )


def _read_index(index: Path) -> dict[str, str]:
    """The index's weight_map: tensor to the name of a file beside the index."""
    try:
        content = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(index, f"is not JSON ({error})") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise _damaged(index, "has no weight_map from tensors to shards")
    for key, name in weight_map.items():
        if not isinstance(name, str) or not name.endswith(".safetensors") or "/" in name or "\\" in name:
            raise _damaged(
                index, f"places tensor {key} in {name!r}, which is no safetensors file of this directory"
            )
    return weight_map


def _refuse_non_finite(key: str, tensor: "torch.Tensor", path: Path) -> None:
    import torch

    if not tensor.is_floating_point():
        return
    finite = torch.isfinite(tensor.float() if tensor.itemsize == 1 else tensor)  # float8 has no isfinite
    if not finite.all():
        bad = tensor.numel() - int(finite.sum())
        raise ArtifactError(
            f"tensor {key} holds {bad} NaN or infinite values of {tensor.numel()}",
            where=str(path),
            remedy="go back to a checkpoint from before the training diverged",
        )


def _damaged(path: Path, what: str) -> ArtifactError:
    return ArtifactError(what, where=str(path), remedy="copy or download the checkpoint again")
