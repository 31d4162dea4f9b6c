"""relu(h)^2 and what its backward pass needs, one read and one write of each wide tensor, in Triton. NaN stays NaN."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 2048


def squared_relu(h: Tensor) -> Tensor:
    """relu(h)^2, elementwise, in the dtype of h."""
    out = torch.empty_like(h)
    _square[(triton.cdiv(h.numel(), _BLOCK),)](h, out, h.numel(), BLOCK=_BLOCK)
    return out


def squared_relu_backward_(grad: Tensor, h: Tensor) -> None:
    """In place of `grad`, the gradient by relu(h)^2, that by h; in place of h, relu(h)^2. Both contiguous."""
    _unsquare[(triton.cdiv(h.numel(), _BLOCK),)](grad, h, h.numel(), BLOCK=_BLOCK)


@triton.jit
def _square(h_ptr, out_ptr, numbers, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < numbers
    h = tl.load(h_ptr + place, mask=inside, other=0.0).to(tl.float32)
    h = tl.where(h < 0, 0.0, h)
    tl.store(out_ptr + place, (h * h).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _unsquare(grad_ptr, h_ptr, numbers, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < numbers
    h = tl.load(h_ptr + place, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + place, mask=inside, other=0.0).to(tl.float32)
    h = tl.where(h < 0, 0.0, h)
    tl.store(grad_ptr + place, (2.0 * h * grad).to(grad_ptr.dtype.element_ty), mask=inside)
    tl.store(h_ptr + place, (h * h).to(h_ptr.dtype.element_ty), mask=inside)
