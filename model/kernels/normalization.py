"""RMSNorm, and the gated grouped RMSNorm of a Mamba block. Statistics and products in float32 at least.

Shapes: B batch, T tokens, D channels, g groups.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(x_BTD: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis, cast once at the end to `dtype` (default: that of x)."""
    return _RMSNorm.apply(x_BTD, None, weight_D, eps, 1, dtype or x_BTD.dtype)


def gated_rms_norm(
    y_BTD: Tensor,
    gate_BTD: Tensor,
    weight_D: Tensor,
    eps: float,
    groups: int,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """RMSNorm of y * silu(gate) within each of `groups` equal runs of channels (gate first, then norm)."""
    return _RMSNorm.apply(y_BTD, gate_BTD, weight_D, eps, groups, dtype or gate_BTD.dtype)


class _RMSNorm(torch.autograd.Function):
    """Keeps its inputs and one scale a group; the backward pass computes the rest again, one batch row at a time."""

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
        scales = []
        for b in range(x_BTD.shape[0]):
            gated_Tgd = _gated(x_BTD[b], None if gate_BTD is None else gate_BTD[b], groups)
            mean_square = torch.linalg.vecdot(gated_Tgd, gated_Tgd)[..., None] / gated_Tgd.shape[-1]
            scale_Tg1 = torch.rsqrt(mean_square + eps)
            normal_TD = (gated_Tgd * scale_Tg1).flatten(1)
            torch.mul(normal_TD, weight_D.to(normal_TD.dtype), out=normal_TD)
            out_BTD[b] = normal_TD
            scales.append(scale_Tg1)
        ctx.save_for_backward(x_BTD, gate_BTD, weight_D, torch.stack(scales))
        ctx.groups = groups
        return out_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, gate_BTD, weight_D, scales_BTg1 = ctx.saved_tensors
        dx_BTD = torch.empty(x_BTD.shape, dtype=x_BTD.dtype, device=x_BTD.device)
        dgate_BTD = None
        if gate_BTD is not None:
            dgate_BTD = torch.empty(gate_BTD.shape, dtype=gate_BTD.dtype, device=gate_BTD.device)
        dweight_D = torch.zeros(weight_D.shape, dtype=scales_BTg1.dtype, device=weight_D.device)
        weight_gd = weight_D.to(scales_BTg1.dtype).unflatten(0, (ctx.groups, -1))
        for b in range(x_BTD.shape[0]):
            gate_TD = None if gate_BTD is None else gate_BTD[b]
            scale_Tg1 = scales_BTg1[b]
            normal_Tgd = _gated(x_BTD[b], gate_TD, ctx.groups) * scale_Tg1
            grad_Tgd = grad_BTD[b].to(normal_Tgd.dtype).unflatten(1, (ctx.groups, -1))
            dweight_D += (grad_Tgd * normal_Tgd).sum(0).flatten()
            dnormal_Tgd = grad_Tgd * weight_gd
            along_Tg1 = torch.linalg.vecdot(dnormal_Tgd, normal_Tgd)[..., None] / normal_Tgd.shape[-1]
            dgated_TD = dnormal_Tgd.addcmul_(normal_Tgd, along_Tg1, value=-1).mul_(scale_Tg1).flatten(1)
            if gate_TD is None or dgate_BTD is None:
                dx_BTD[b] = dgated_TD
            else:
                wide_gate_TD = gate_TD.to(dgated_TD.dtype)
                dx_BTD[b] = dgated_TD * F.silu(wide_gate_TD)
                dgate_BTD[b] = torch.ops.aten.silu_backward(dgated_TD.mul_(x_BTD[b]), wide_gate_TD)
        return dx_BTD, dgate_BTD, dweight_D.to(weight_D.dtype), None, None, None


def _gated(x_TD: Tensor, gate_TD: Tensor | None, groups: int) -> Tensor:
    """x, times silu(gate) if there is one, in float32 or wider, as [T, g, D / g]."""
    wide = torch.promote_types(x_TD.dtype, torch.float32)
    x_TD = x_TD.to(wide)
    if gate_TD is not None:
        x_TD = F.silu(gate_TD.to(wide)).mul_(x_TD)
    return x_TD.unflatten(1, (groups, -1))
