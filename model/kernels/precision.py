"""Conversions that ask first: one that has nothing to do still costs a call, and decoding is made of small calls."""

import torch
from torch import Tensor


def cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value.to(dtype)`."""
    return value if value.dtype == dtype else value.to(dtype)


def as_wide(value: Tensor) -> Tensor:
    """In float32, or as it is where that is wider: the precision of statistics and states."""
    return value if value.dtype in (torch.float32, torch.float64) else value.float()
