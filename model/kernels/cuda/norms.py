"""RMSNorm and the gated, grouped RMSNorm of a Mamba block in Triton: one read of the inputs a pass, sums in float32.

A program works on one group of channels of one token; backward, on that of many tokens, so that it can add up the weight's
gradient in registers. The backward pass computes the norm again from the inputs and keeps nothing else.

Shapes: n tokens, D channels in groups of d.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 2048
"""Numbers that a program adds."""

_PROGRAMS = 1056
"""Of a backward pass, over tokens and groups: enough for every multiprocessor of a GPU, few enough to add up."""


class FusedRMSNorm(torch.autograd.Function):
    """As `model.kernels.normalization`'s function: x, gate or None, weight, eps, groups, dtype of the result."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BTD: Tensor,
        gate_BTD: Tensor | None,
        weight_D: Tensor,
        eps: float,
        groups: int,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.save_for_backward(x_BTD, gate_BTD, weight_D)
        ctx.eps, ctx.groups = eps, groups
        return norm_forward(x_BTD, gate_BTD, weight_D, eps, groups, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, gate_BTD, weight_D = ctx.saved_tensors
        dx_BTD = torch.empty(x_BTD.shape, dtype=x_BTD.dtype, device=x_BTD.device)
        dgate_BTD = None
        if gate_BTD is not None:
            dgate_BTD = torch.empty(gate_BTD.shape, dtype=gate_BTD.dtype, device=gate_BTD.device)
        dweight_D = norm_backward(grad_BTD, x_BTD, gate_BTD, weight_D, ctx.eps, ctx.groups, dx_BTD, dgate_BTD)
        return dx_BTD, dgate_BTD, dweight_D, None, None, None


class FusedResidualNorm(torch.autograd.Function):
    """x [B, T, D] as it is, and its RMSNorm in `dtype`; backward, one pass adds up the gradients that come by either."""

    @staticmethod
    def forward(
        ctx: Any, x_BTD: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x_BTD, weight_D)
        ctx.eps = eps
        return x_BTD.view_as(x_BTD), norm_forward(x_BTD, None, weight_D, eps, 1, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_x_BTD: Tensor, grad_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, weight_D = ctx.saved_tensors
        dx_BTD = torch.empty(x_BTD.shape, dtype=x_BTD.dtype, device=x_BTD.device)
        dweight_D = norm_backward(grad_BTD, x_BTD, None, weight_D, ctx.eps, 1, dx_BTD, None, plus=grad_x_BTD)
        return dx_BTD, dweight_D, None, None


class FusedAdd(torch.autograd.Function):
    """x + delta, of the same shape, in the dtype of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor) -> Tensor:
        ctx.dtype = delta.dtype
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        x, delta = x.contiguous(), delta.contiguous()
        _add[(triton.cdiv(x.numel(), _BLOCK),)](x, delta, out, x.numel(), BLOCK=_BLOCK)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad.to(ctx.dtype)


def norm_forward(
    x_BTD: Tensor, gate_BTD: Tensor | None, weight_D: Tensor, eps: float, groups: int, dtype: torch.dtype
) -> Tensor:
    """x * silu(gate), normalized within each group of channels, times the weight, [B, T, D] in `dtype`.

    Rows of x and of the gate may lie apart (slices of a wider tensor).
    """
    x_nD = _rows(x_BTD)
    gate_nD = x_nD if gate_BTD is None else _rows(gate_BTD)
    out_BTD = torch.empty(x_BTD.shape, dtype=dtype, device=x_BTD.device)
    tokens, width = x_nD.shape[0], x_nD.shape[1] // groups
    block = triton.next_power_of_2(width)
    _forward[(tokens, groups)](
        x_nD,
        gate_nD,
        weight_D,
        out_BTD,
        x_nD.stride(0),
        gate_nD.stride(0),
        x_nD.shape[1],
        width,
        eps,
        HAS_GATE=gate_BTD is not None,
        BLOCK=block,
        num_warps=_warps(block),
    )
    return out_BTD


def norm_backward(
    grad_BTD: Tensor,
    x_BTD: Tensor,
    gate_BTD: Tensor | None,
    weight_D: Tensor,
    eps: float,
    groups: int,
    dx_BTD: Tensor,
    dgate_BTD: Tensor | None,
    *,
    plus: Tensor | None = None,
) -> Tensor:
    """The weight's gradient [D] in its dtype; those of x and of the gate are written to where they belong. That of x is
    added to `plus` [B, T, D], which reached x by another way."""
    grad_nD, x_nD, dx_nD = _rows(grad_BTD), _rows(x_BTD), _rows(dx_BTD)
    gated = gate_BTD is not None and dgate_BTD is not None
    gate_nD, dgate_nD = (_rows(gate_BTD), _rows(dgate_BTD)) if gated else (x_nD, dx_nD)  # type: ignore[arg-type]
    plus_nD = dx_nD if plus is None else _rows(plus)
    tokens, channels = x_nD.shape
    width = channels // groups
    programs = max(1, min(tokens, _PROGRAMS // groups))
    partial_pD = torch.empty(programs, channels, dtype=torch.float32, device=x_nD.device)
    block = triton.next_power_of_2(width)
    _backward[(programs, groups)](
        grad_nD,
        x_nD,
        gate_nD,
        weight_D,
        plus_nD,
        dx_nD,
        dgate_nD,
        partial_pD,
        grad_nD.stride(0),
        x_nD.stride(0),
        gate_nD.stride(0),
        plus_nD.stride(0),
        dx_nD.stride(0),
        dgate_nD.stride(0),
        tokens,
        channels,
        width,
        eps,
        HAS_GATE=gated,
        HAS_PLUS=plus is not None,
        BLOCK=block,
        num_warps=_warps(block),
    )
    return partial_pD.sum(0).to(weight_D.dtype)


def _rows(value: Tensor) -> Tensor:
    """[n, D] without a copy, wherever tokens lie evenly apart and channels side by side."""
    if value.stride(-1) != 1:
        value = value.contiguous()
    return value.flatten(0, -2)


def _warps(block: int) -> int:
    return max(1, min(8, block // 1024))


@triton.jit
def _add(x_ptr, delta_ptr, out_ptr, numbers, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < numbers
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    delta = tl.load(delta_ptr + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + place, (x + delta).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _forward(
    x_ptr,
    gate_ptr,
    weight_ptr,
    out_ptr,
    x_stride,
    gate_stride,
    out_stride,
    width,
    eps,
    HAS_GATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    channels = tl.program_id(1) * width + columns
    x = tl.load(x_ptr + token * x_stride + channels, mask=inside, other=0.0).to(tl.float32)
    if HAS_GATE:
        gate = tl.load(gate_ptr + token * gate_stride + channels, mask=inside, other=0.0).to(tl.float32)
        x = x * gate * tl.sigmoid(gate)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / width + eps)
    weight = tl.load(weight_ptr + channels, mask=inside, other=0.0).to(tl.float32)
    out = x * scale * weight
    tl.store(out_ptr + token * out_stride + channels, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    grad_ptr,
    x_ptr,
    gate_ptr,
    weight_ptr,
    plus_ptr,
    dx_ptr,
    dgate_ptr,
    dweight_ptr,
    grad_stride,
    x_stride,
    gate_stride,
    plus_stride,
    dx_stride,
    dgate_stride,
    tokens,
    all_channels,
    width,
    eps,
    HAS_GATE: tl.constexpr,
    HAS_PLUS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    first = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    channels = tl.program_id(1) * width + columns
    weight = tl.load(weight_ptr + channels, mask=inside, other=0.0).to(tl.float32)
    dweight = tl.zeros([BLOCK], dtype=tl.float32)
    for row in range(first, tokens, tl.num_programs(0)):
        token = tl.cast(row, tl.int64)
        x = tl.load(x_ptr + token * x_stride + channels, mask=inside, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + token * grad_stride + channels, mask=inside, other=0.0).to(tl.float32)
        gated = x
        if HAS_GATE:
            gate = tl.load(gate_ptr + token * gate_stride + channels, mask=inside, other=0.0).to(tl.float32)
            sigmoid = tl.sigmoid(gate)
            gated = x * gate * sigmoid
        scale = 1.0 / tl.sqrt(tl.sum(gated * gated, axis=0) / width + eps)
        normal = gated * scale
        dweight += grad * normal
        dnormal = grad * weight
        along = tl.sum(dnormal * normal, axis=0) / width
        dgated = (dnormal - normal * along) * scale
        if HAS_GATE:
            dgate = dgated * x * sigmoid * (1.0 + gate * (1.0 - sigmoid))
            tl.store(
                dgate_ptr + token * dgate_stride + channels,
                dgate.to(dgate_ptr.dtype.element_ty),
                mask=inside,
            )
            dgated = dgated * gate * sigmoid
        if HAS_PLUS:
            dgated += tl.load(plus_ptr + token * plus_stride + channels, mask=inside, other=0.0).to(
                tl.float32
            )
        tl.store(dx_ptr + token * dx_stride + channels, dgated.to(dx_ptr.dtype.element_ty), mask=inside)
    tl.store(dweight_ptr + first * all_channels + channels, dweight, mask=inside)
