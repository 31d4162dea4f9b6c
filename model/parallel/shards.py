"""Parameters that FSDP2 has sharded, told apart without importing it: a command of one process does not pay for it."""

from typing import Any, cast

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Is it a DTensor?"""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return cast(Tensor, cast(Any, tensor).to_local()) if is_sharded(tensor) else tensor


def stays_whole(name: str, parameter: Tensor) -> bool:
    """Is this parameter held whole by every rank that reads different tokens?"""
    return parameter.dim() < 2 or "conv1d" in name
