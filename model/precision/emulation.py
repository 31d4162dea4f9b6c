"""The quantizer of FP8 training in plain PyTorch, and products of what it makes.

The numerics of Transformer Engine's recipes Float8BlockScaling and Float8CurrentScaling (E4M3) on any device, for tests and
for trying FP8 where no such GPU is.

A scale is 448 / amax of what shares it, for blocks the power of two at or below that; it is applied in float32 before the
cast, and its reciprocal after it. Blocks of a weight are 128x128. Inputs and gradients are quantized twice, since the two
products that they take part in have different inner dimensions: 1x128 along the features, and 128x1 along the tokens.

Shapes: n tokens, D input width, F output width.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.precision.scaling import Scaling

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest number of E4M3, which has no infinity."""

BLOCK = 128
_SIGN_AND_EXPONENT = -(1 << 23)
"""Bits of a float32 without those of its mantissa, as an int32."""


class Fp8(NamedTuple):
    """A quantized matrix: numbers [r, c] in E4M3, and the factors [r / block rows, c / block columns] that undo their
    scales."""

    values: Tensor
    inverse_scales: Tensor
    block: tuple[int, int]

    def wide(self) -> Tensor:
        """Its numbers in float32."""
        rows, columns = self.values.shape
        spread = self.inverse_scales.repeat_interleave(self.block[0], 0)[:rows]
        return self.values.float() * spread.repeat_interleave(self.block[1], 1)[:, :columns]


def quantize(x: Tensor, block: tuple[int, int], *, power_of_two: bool) -> Fp8:
    """A matrix in blocks of so many rows and columns, cut short at the edges.

    Blocks of zeros, and blocks with an infinity (which becomes 448), have the scale 1. A NaN stays one and does not change
    its block's scale.
    """
    rows, columns = x.shape
    wide = F.pad(x.float(), (0, -columns % block[1], 0, -rows % block[0]))
    blocks = wide.view(-(-rows // block[0]), block[0], -(-columns // block[1]), block[1])
    amax = blocks.abs().nan_to_num(nan=0.0, posinf=torch.inf).amax((1, 3))
    scales = _scales(amax, power_of_two=power_of_two)
    scaled = (blocks * scales[:, None, :, None]).clamp(-LARGEST, LARGEST)
    values = scaled.to(E4M3).view(wide.shape)[:rows, :columns].contiguous()
    return Fp8(values, scales.reciprocal(), block)


def _scales(amax: Tensor, *, power_of_two: bool) -> Tensor:
    """448 / amax; the largest float32 where that is infinite; 1 where there is none."""
    # A number divided by a tensor would be multiplied by its reciprocal, which rounds twice.
    scales = torch.full_like(amax, LARGEST).div_(amax).clamp(max=torch.finfo(torch.float32).max)
    if power_of_two:
        scales = (scales.view(torch.int32) & _SIGN_AND_EXPONENT).view(torch.float32)
    return torch.where((amax > 0) & amax.isfinite(), scales, 1.0)


class Operand(NamedTuple):
    """by_row: for products whose inner dimension are the columns; by_column: the rows."""

    by_row: Fp8 | None
    by_column: Fp8


class Emulation:
    """An `Arithmetic` in plain PyTorch: float32 products of what the quantizer left of the operands."""

    def __init__(self, scaling: Scaling) -> None:
        self.scaling = scaling

    def quantize_input(self, x_nD: Tensor) -> Operand:
        if self.scaling == "tensor":
            return self._quantize_whole(x_nD)
        return Operand(
            quantize(x_nD, (1, BLOCK), power_of_two=True), quantize(x_nD, (BLOCK, 1), power_of_two=True)
        )

    def quantize_weight(self, weight_FD: Tensor) -> Operand:
        if self.scaling == "tensor":
            return self._quantize_whole(weight_FD)
        quantized = quantize(weight_FD, (BLOCK, BLOCK), power_of_two=True)
        return Operand(quantized, quantized)

    def quantize_gradient(self, grad_nF: Tensor) -> Operand:
        return self.quantize_input(grad_nF)

    def multiply(self, x: Operand, weight: Operand, dtype: torch.dtype) -> Tensor:
        assert x.by_row is not None
        assert weight.by_row is not None
        return (x.by_row.wide() @ weight.by_row.wide().t()).to(dtype)

    def input_gradient(self, grad: Operand, weight: Operand, dtype: torch.dtype) -> Tensor:
        assert grad.by_row is not None
        return (grad.by_row.wide() @ weight.by_column.wide()).to(dtype)

    def weight_gradient(self, grad: Operand, x: Operand, dtype: torch.dtype, total: Tensor | None) -> Tensor:
        product = grad.by_column.wide().t() @ x.by_column.wide()
        return product.to(dtype) if total is None else total.add_(product)

    def save(self, x: Operand) -> tuple[Any, list[Tensor]]:
        values, inverse_scales, block = x.by_column
        return block, [values, inverse_scales]

    def restore(self, shell: Any, tensors: list[Tensor]) -> Operand:
        values, inverse_scales = tensors
        return Operand(None, Fp8(values, inverse_scales, shell))

    def _quantize_whole(self, x: Tensor) -> Operand:
        block = (max(1, x.shape[0]), max(1, x.shape[1]))
        quantized = quantize(x, block, power_of_two=False)
        return Operand(quantized, quantized)
