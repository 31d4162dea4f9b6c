"""What shares a scale: blocks and tiles of 128, or a whole tensor. No torch."""

from typing import Literal

Scaling = Literal["blocks", "tensor"]
"""blocks: 128x128 of a weight, 1x128 of inputs and gradients (report, section 2.1). tensor: one scale for all of it."""

SCALINGS: dict[str, Scaling] = {"fp8": "blocks", "fp8-tensor": "tensor"}
"""By the name of the precision."""
