"""Checkpoints to models and back.

A checkpoint directory is read whole or not at all: config and tensors are compared by name and shape before anything is
loaded, and every value is checked to be finite. Written files are what transformers and vLLM read as they are.
"""

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model.artifact.sharding import MAX_SHARD_BYTES
from model.artifact.staging import write_json
from model.artifact.weights import CheckpointFiles, save_weights
from model.config import HybridConfig
from model.errors import ArtifactError, UsageError
from model.hybrid import HybridLM

if TYPE_CHECKING:
    from model.parallel.mesh import Mesh

CONFIG_FILE = "config.json"
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def read_config(directory: Path) -> HybridConfig:
    """The shape that a checkpoint's `config.json` gives. ArtifactError if it is missing, malformed or not supported."""
    return HybridConfig.from_hf(_read_json(directory / CONFIG_FILE), where=str(directory / CONFIG_FILE))


def load(
    path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | str | None = None
) -> HybridLM:
    """The model of a checkpoint directory, in evaluation mode.

    `dtype` defaults to the one that config.json names, else to that of the stored embeddings. Reads single-file and
    sharded safetensors, keys with the prefix `backbone.` (on disk) or `model.` (transformers' own), and both config
    dialects; tensors of a multi-token-prediction head (`mtp.`) are left out. Raises ArtifactError naming file and tensor.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise ArtifactError("no such directory", where=str(directory), remedy="give a checkpoint directory")
    config = read_config(directory)
    files = CheckpointFiles(directory)
    stored_as = match_tensors(config, files)
    target = _dtype(dtype) if dtype is not None else stored_dtype(files, stored_as)
    tensors = {
        # A copy: the tensors as read are views of the file, which may be replaced while the model lives.
        name: files.tensor(key, require_finite=True).to(device=device, dtype=target, copy=True)
        for name, key in stored_as.items()
    }
    return assembled(config, tensors)


def assembled(config: HybridConfig, tensors: Mapping[str, Tensor]) -> HybridLM:
    """The model of these parameters, which are shared and not copied, in evaluation mode."""
    with torch.device("meta"):
        lm = HybridLM(config, initialize=False)
    lm.load_state_dict(dict(tensors), assign=True)
    return lm.eval()


def save(
    lm: HybridLM,
    directory: Path,
    dtype: torch.dtype | str | None = None,
    mesh: "Mesh | None" = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write weights (in `dtype`, default: as they are), `config.json` and `generation_config.json` into a directory.

    The ranks of a mesh do it together: each gives its part of every parameter, and the first one writes.
    """
    target = _dtype(dtype) if dtype is not None else lm.lm_head.weight.dtype
    whole = sorted(lm.state_dict().items()) if mesh is None else mesh.whole_parameters(lm)
    written = ((key, tensor.detach().to("cpu", target)) for key, tensor in whole)
    if mesh is not None and not mesh.first:
        deque(written, maxlen=0)
        return
    save_weights(written, directory, max_shard_bytes=max_shard_bytes)
    save_config(lm.config, directory, target)


def save_config(config: HybridConfig, directory: Path, dtype: torch.dtype) -> None:
    """Write `config.json`, for weights of this dtype, and `generation_config.json`."""
    raw = config.to_hf(dtype=str(dtype).removeprefix("torch."))
    write_json(directory / CONFIG_FILE, raw)
    write_json(
        directory / "generation_config.json",
        {key: raw[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )


def match_tensors(config: HybridConfig, files: CheckpointFiles) -> dict[str, str]:
    """Parameter name -> key on disk, once names and shapes agree one to one. ArtifactError names what does not."""
    directory = files.directory
    with torch.device("meta"):
        expected = {
            name: tuple(t.shape) for name, t in HybridLM(config, initialize=False).state_dict().items()
        }
    remedy = "check that config.json and the weights belong together"
    stored_as: dict[str, str] = {}
    for key in files.keys():  # noqa: SIM118
        if not key.startswith("mtp.") and stored_as.setdefault(_parameter_name(key), key) != key:
            raise ArtifactError(
                f"{key} and {stored_as[_parameter_name(key)]} are the same parameter",
                where=str(directory),
                remedy="remove the one that is out of date",
            )
    for name in expected:
        if name not in stored_as:
            raise ArtifactError(f"tensor {name} is missing", where=str(directory), remedy=remedy)
    for name, key in stored_as.items():
        if name not in expected:
            raise ArtifactError(
                f"tensor {key} has no place in the model that config.json describes",
                where=str(directory),
                remedy=remedy,
            )
        if files.shape(key) != expected[name]:
            raise ArtifactError(
                f"tensor {key} has shape {list(files.shape(key))}, config.json makes it {list(expected[name])}",
                where=str(directory),
                remedy=remedy,
            )
        if not files.dtype(key).is_floating_point:
            raise ArtifactError(
                f"tensor {key} is {files.info(key).dtype}, not floating point",
                where=str(directory),
                remedy="dequantize the checkpoint first",
            )
    return stored_as


def _parameter_name(key: str) -> str:
    return "backbone." + key.removeprefix("model.") if key.startswith("model.") else key


def stored_dtype(files: CheckpointFiles, stored_as: Mapping[str, str]) -> torch.dtype:
    """The dtype of a checkpoint's weights: the one that config.json names, else that of the embeddings."""
    return named_dtype(files.directory) or files.dtype(stored_as["backbone.embeddings.weight"])


def named_dtype(directory: Path) -> torch.dtype | None:
    """The dtype that a checkpoint's config.json names."""
    raw = _read_json(directory / CONFIG_FILE)
    return DTYPES.get(raw.get("dtype") or raw.get("torch_dtype") or "")


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}", remedy=f"choose one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"there is no {path.name}", where=str(path.parent), remedy="give a checkpoint directory"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(
            f"not valid JSON ({error})", where=str(path), remedy="restore the file"
        ) from error
    if not isinstance(raw, dict):
        raise ArtifactError("not a JSON object", where=str(path), remedy="restore the file")
    return raw
