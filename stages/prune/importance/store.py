"""What was measured of a model, and the file that holds it: one safetensors file, bound to the model by content hash.

    layers.block [n] int64, layers.mse [n] float64        blocks in the order in which they go
    hidden [D], residual_energy [L + 1, D]
    neurons.{i} [F], mamba.{i} and gated_energy.{i} [H, P], attention_heads.{i} [q]       of block i

and as metadata, under the one name "nano2", the JSON of `Origin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from torch import Tensor

from model.artifact.hashing import short_hash
from model.artifact.safetensors_header import read_header
from model.artifact.staging import write_bytes_atomic
from model.config import ATTENTION, MAMBA, MLP, HybridConfig, describe
from model.errors import ArtifactError
from stages.prune.importance.widths import Widths

FILE = "importance.safetensors"
_METADATA = "nano2"
_OF_BLOCKS = ("neurons", "mamba", "attention_heads", "gated_energy")


class Origin(BaseModel):
    """What was measured on what: the content hashes of the model and of each dataset, and the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["importance"] = "importance"
    version: Literal[1] = 1
    model: str
    data: tuple[str, ...]
    seq_len: int
    settings: dict[str, JsonValue]


@dataclass(frozen=True)
class Importance:
    """Blocks in the order in which they go, each with the logit MSE once it is gone, too; and what the widths are worth."""

    layers: list[tuple[int, float]]
    widths: Widths
    origin: Origin


def save(importance: Importance, path: Path) -> None:
    """Write the file: as it was or whole, and the same bytes for the same importance. OSError if the disk is full."""
    from safetensors.torch import save as to_bytes

    widths = importance.widths
    tensors: dict[str, Tensor] = {
        "layers.block": torch.tensor([block for block, _ in importance.layers], dtype=torch.int64),
        "layers.mse": torch.tensor([mse for _, mse in importance.layers], dtype=torch.float64),
        "hidden": widths.hidden,
        "residual_energy": widths.residual_energy,
    }
    for kind in _OF_BLOCKS:
        tensors |= {f"{kind}.{block}": tensor for block, tensor in getattr(widths, kind).items()}
    write_bytes_atomic(path, to_bytes(tensors, metadata={_METADATA: importance.origin.model_dump_json()}))


def load(path: Path, config: HybridConfig, *, model: str) -> Importance:
    """The importance of the model with the content hash `model` and this config.

    Raises:
        ArtifactError: the file is missing, damaged, holds NaN, is something else, or was measured on another model.
    """
    from safetensors.torch import load_file

    shapes = {name: info.shape for name, info in read_header(path).items()}
    origin = _origin(path)
    if origin.model != model:
        raise ArtifactError(
            f"was measured on another model ({short_hash(origin.model)}, not {short_hash(model)})",
            where=str(path),
            remedy="measure the importance of this model: leave --importance out",
        )
    ranked = shapes.get("layers.block", (0,))
    expected = {"layers.block": ranked, "layers.mse": ranked, **_shapes(config)}
    for name in sorted(expected.keys() | shapes.keys()):
        if shapes.get(name) != expected.get(name):
            raise _damaged(
                path, f"tensor {name} is {shapes.get(name)}, the model makes it {expected.get(name)}"
            )
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise _damaged(path, f"tensor {name} holds NaN or infinite values")
    blocks = tensors["layers.block"].tolist()
    if len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(config.num_hidden_layers)):
        raise _damaged(path, "layers.block ranks a block twice, or one that the model lacks")
    of_blocks: dict[str, Any] = {
        kind: {
            block: tensors[f"{kind}.{block}"]
            for block in range(config.num_hidden_layers)
            if f"{kind}.{block}" in tensors
        }
        for kind in _OF_BLOCKS
    }
    return Importance(
        layers=list(zip(blocks, tensors["layers.mse"].tolist(), strict=True)),
        widths=Widths(hidden=tensors["hidden"], residual_energy=tensors["residual_energy"], **of_blocks),
        origin=origin,
    )


def _shapes(config: HybridConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of widths that a model of this config has."""
    mamba = (config.mamba_num_heads, config.mamba_head_dim)
    of_kind: dict[str, dict[str, tuple[int, ...]]] = {
        MAMBA: {"mamba": mamba, "gated_energy": mamba},
        MLP: {"neurons": (config.intermediate_size,)},
        ATTENTION: {"attention_heads": (config.num_attention_heads,)},
    }
    shapes: dict[str, tuple[int, ...]] = {
        "hidden": (config.hidden_size,),
        "residual_energy": (config.num_hidden_layers + 1, config.hidden_size),
    }
    for block, letter in enumerate(config.pattern):
        shapes |= {f"{name}.{block}": shape for name, shape in of_kind[letter].items()}
    return shapes


def _origin(path: Path) -> Origin:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    try:
        return Origin.model_validate_json(metadata.get(_METADATA, ""))
    except ValidationError as error:
        raise _damaged(path, f"is no importance file ({describe(error)})") from error


def _damaged(path: Path, what: str) -> ArtifactError:
    return ArtifactError(what, where=str(path), remedy="measure the importance again: leave --importance out")
