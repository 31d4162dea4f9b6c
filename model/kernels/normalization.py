"""RMSNorm, and the gated grouped RMSNorm of a Mamba block. Statistics and products in float32 at least.

Shapes: B batch, T tokens, n = B T, D channels, g groups of d channels.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels import choice, cpu_decoding


def rms_norm(x_BTD: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis, cast once at the end to `dtype` (default: that of x)."""
    dtype = dtype or x_BTD.dtype
    if x_BTD.is_contiguous() and cpu_decoding.serves(x_BTD, x_BTD.numel()):
        return cpu_decoding.rms_norm_step(x_BTD, weight_D, eps, dtype)
    return _norm(x_BTD, None, weight_D, eps, 1, dtype)


def add(x: Tensor, delta: Tensor) -> Tensor:
    """x + delta, of the same shape, in the dtype of x, which is no narrower."""
    if choice.fused(x, delta.dtype):
        from model.kernels.cuda.norms import FusedAdd

        return FusedAdd.apply(x, delta)
    return x + delta


def gated_rms_norm(
    y_BTD: Tensor,
    gate_BTD: Tensor,
    weight_D: Tensor,
    eps: float,
    groups: int,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """RMSNorm of y * silu(gate) within each of `groups` equal runs of channels (gate first, then norm)."""
    return _norm(y_BTD, gate_BTD, weight_D, eps, groups, dtype or gate_BTD.dtype)


def _norm(
    x_BTD: Tensor, gate_BTD: Tensor | None, weight_D: Tensor, eps: float, groups: int, dtype: torch.dtype
) -> Tensor:
    if choice.fused(x_BTD, dtype):
        from model.kernels.cuda.norms import FusedRMSNorm

        return FusedRMSNorm.apply(x_BTD, gate_BTD, weight_D, eps, groups, dtype)
    return _RMSNorm.apply(x_BTD, gate_BTD, weight_D, eps, groups, dtype)


SLAB_ELEMENTS = 2**18
"""Numbers worked on at a time: with its copies a slab stays in the processor's cache."""


class _RMSNorm(torch.autograd.Function):
    """Keeps its inputs and one scale a group; the backward pass computes the rest again, a slab of tokens at a time."""

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
        out_BTD = torch.empty(x_BTD.shape, dtype=dtype, device=x_BTD.device)
        x_nD, out_nD = x_BTD.flatten(0, -2), out_BTD.flatten(0, -2)
        gate_nD = None if gate_BTD is None else gate_BTD.flatten(0, -2)
        scales = []
        for slab in _slabs(x_nD):
            gated_ngd = _gated(x_nD[slab], None if gate_nD is None else gate_nD[slab], groups)
            mean_square = torch.linalg.vecdot(gated_ngd, gated_ngd)[..., None] / gated_ngd.shape[-1]
            scale_ng1 = torch.rsqrt(mean_square + eps)
            normal_nD = (gated_ngd * scale_ng1).flatten(1)
            out_nD[slab] = normal_nD.mul_(weight_D)
            scales.append(scale_ng1)
        ctx.save_for_backward(x_BTD, gate_BTD, weight_D, torch.cat(scales))
        ctx.groups = groups
        return out_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, gate_BTD, weight_D, scale_ng1 = ctx.saved_tensors
        dx_BTD = torch.empty(x_BTD.shape, dtype=x_BTD.dtype, device=x_BTD.device)
        x_nD, grad_nD, dx_nD = (t.flatten(0, -2) for t in (x_BTD, grad_BTD, dx_BTD))
        gate_nD = dgate_BTD = dgate_nD = None
        if gate_BTD is not None:
            dgate_BTD = torch.empty(gate_BTD.shape, dtype=gate_BTD.dtype, device=gate_BTD.device)
            gate_nD, dgate_nD = gate_BTD.flatten(0, -2), dgate_BTD.flatten(0, -2)
        dweight_D = torch.zeros(weight_D.shape, dtype=scale_ng1.dtype, device=weight_D.device)
        weight_gd = weight_D.to(scale_ng1.dtype).unflatten(0, (ctx.groups, -1))
        for slab in _slabs(x_nD):
            x = x_nD[slab]
            gate = None if gate_nD is None else gate_nD[slab].to(scale_ng1.dtype)
            normal_ngd = _gated(x, gate, ctx.groups) * scale_ng1[slab]
            grad_ngd = grad_nD[slab].to(normal_ngd.dtype).unflatten(1, (ctx.groups, -1))
            dweight_D += (grad_ngd * normal_ngd).sum(0).flatten()
            dnormal_ngd = grad_ngd * weight_gd
            along_ng1 = torch.linalg.vecdot(dnormal_ngd, normal_ngd)[..., None] / normal_ngd.shape[-1]
            dnormal_ngd.addcmul_(normal_ngd, along_ng1, value=-1)
            dgated_nD = dnormal_ngd.mul_(scale_ng1[slab]).flatten(1)
            if gate is None or dgate_nD is None:
                dx_nD[slab] = dgated_nD
            else:
                dx_nD[slab] = dgated_nD * F.silu(gate)
                dgate_nD[slab] = torch.ops.aten.silu_backward(dgated_nD.mul_(x), gate)
        return dx_BTD, dgate_BTD, dweight_D.to(weight_D.dtype), None, None, None


def _slabs(x_nD: Tensor) -> Iterator[slice]:
    """Runs of tokens of about SLAB_ELEMENTS numbers."""
    tokens = max(1, SLAB_ELEMENTS // x_nD.shape[1])
    for start in range(0, x_nD.shape[0], tokens):
        yield slice(start, start + tokens)


def _gated(x_nD: Tensor, gate_nD: Tensor | None, groups: int) -> Tensor:
    """x, times silu(gate) if there is one, in float32 or wider, as [..., g, D / g]."""
    x_nD = _as_wide(x_nD)
    if gate_nD is not None:
        x_nD = F.silu(_as_wide(gate_nD)).mul_(x_nD)
    return x_nD.unflatten(-1, (groups, -1))


def _as_wide(value: Tensor) -> Tensor:
    """In float32, or as it is where that is wider: the precision of the statistics."""
    return value if value.dtype in (torch.float32, torch.float64) else value.float()
