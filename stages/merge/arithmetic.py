"""What a merge computes, on pieces of tensors: pure functions.

Both methods multiply each model by a number and add. Linear has one number a model for all tensors; slerp has those of the
great circle from one tensor to the other (Shoemake 1985), without changing their lengths first, as mergekit does.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_NO_ANGLE = 1e-6
"""Radians from parallel or opposite within which the great circle is undetermined by the numbers, and the chord is taken."""

_ROUNDING = 1e-15
"""By how much weights may miss 1 and still be meant to sum to it."""


def weighted_sum(pieces: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum of weights[i] * pieces[i] in float64, for pieces of one shape in any dtypes.

    Computed from the differences to the first piece: equal pieces give the first bit for bit if the weights sum to 1.
    """
    first = pieces[0].double()
    total = math.fsum(weights)
    merged = first * (1.0 if math.isclose(total, 1, rel_tol=_ROUNDING) else total)
    for piece, weight in zip(pieces[1:], weights[1:], strict=True):
        merged += (piece.double() - first) * weight
    return torch.where(merged == first, first, merged)  # -0 plus a difference of 0 would be 0


def slerp_weights(dot: float, square_one: float, square_other: float, alpha: float) -> tuple[float, float]:
    """The two weights, from the tensors' inner product and squared lengths; alpha 0 is the first, 1 the other.

    sin((1 - alpha) angle) / sin(angle) and sin(alpha angle) / sin(angle); 1 - alpha and alpha where a tensor is zero, or
    where the two point the same or opposite ways.
    """
    lengths = math.sqrt(square_one) * math.sqrt(square_other)
    angle = math.acos(max(-1.0, min(1.0, dot / lengths))) if lengths > 0 else 0.0
    if not _NO_ANGLE < angle < math.pi - _NO_ANGLE:
        return 1 - alpha, alpha
    return math.sin((1 - alpha) * angle) / math.sin(angle), math.sin(alpha * angle) / math.sin(angle)


def inner_product(one: Tensor, other: Tensor) -> float:
    """Of two flat pieces, in float64."""
    return float(torch.dot(one.double(), other.double()))


def is_within(values: Tensor, dtype: torch.dtype) -> bool:
    """Are all of them finite, and in the range of `dtype`?"""
    if not values.numel():
        return True
    low, high = torch.aminmax(values)  # NaN if any is
    largest = torch.finfo(dtype).max
    return -largest <= float(low) and float(high) <= largest
