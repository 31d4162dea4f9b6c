"""What lies between the projections of a Mamba block, on mamba-ssm's scan and causal-conv1d's convolution.

`conv_scan_norm` has the shape of mamba-ssm's fused split-conv-scan, with our gated norm in it: convolution, scan and norm
as one function of in_proj's output, whose gradient is written in place, slice by slice. It keeps that output, the scan's and
the states between chunks, and computes the convolution and the norm again. `scan` and `conv` are the two alone, for rows in
pieces and for tokens that follow others.

Shapes: B batch, T tokens, W = z, x, B, C, dt side by side, H heads, P head_dim, G groups, N state size, C conv channels.
"""

from typing import Any

import torch
from causal_conv1d import causal_conv1d_fn
from causal_conv1d.cpp_functions import causal_conv1d_bwd_function, causal_conv1d_fwd_function
from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels.cuda import tuning
from model.kernels.cuda.chunk_scan import scan_backward, scan_forward
from model.kernels.cuda.norms import norm_backward, norm_forward
from model.kernels.documents import Documents

tuning.recall()


def conv_scan_norm(
    zxBCdt_BTW: Tensor,
    conv_CK: Tensor,
    conv_bias_C: Tensor | None,
    dt_bias_H: Tensor,
    A_log_H: Tensor,
    D_H: Tensor,
    norm_D: Tensor,
    *,
    eps: float,
    groups: int,
    chunk_size: int,
    documents: Documents | None,
) -> Tensor:
    """norm(scan(conv(x, B, C), dt) * silu(z)) [B, T, H P] in the dtype of the first argument. Differentiable."""
    seq_idx_BT = None if documents is None else documents.runs_int32_BT
    A_H = -torch.exp(A_log_H.float())
    return _ConvScanNorm.apply(
        zxBCdt_BTW,
        conv_CK,
        conv_bias_C,
        dt_bias_H.float(),
        A_H,
        D_H.float(),
        norm_D,
        eps,
        groups,
        chunk_size,
        seq_idx_BT,
    )


def conv(x_BTC: Tensor, weight_CK: Tensor, bias_C: Tensor | None, documents: Documents | None) -> Tensor:
    """silu(causal depthwise convolution) [B, T, C], reset at documents. Differentiable."""
    seq_idx_BT = None if documents is None else documents.runs_int32_BT
    x_BCT = _aligned(x_BTC).transpose(1, 2)
    return causal_conv1d_fn(x_BCT, weight_CK, bias_C, seq_idx=seq_idx_BT, activation="silu").transpose(1, 2)


def scan(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_log_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    chunk_size: int,
    documents: Documents | None,
    initial_state_BHPN: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """As `model.kernels.scan.chunked_scan`: (y, final state in float32). Differentiable."""
    return mamba_chunk_scan_combined(
        x_BTHP,
        dt_BTH,
        -torch.exp(A_log_H.float()),
        B_BTGN,
        C_BTGN,
        chunk_size,
        D=D_H.float(),
        dt_bias=dt_bias_H.float(),
        initial_states=initial_state_BHPN,
        seq_idx=None if documents is None else documents.runs_int32_BT,
        dt_softplus=True,
        return_final_states=True,
    )


class _ConvScanNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        zxBCdt_BTW: Tensor,
        conv_CK: Tensor,
        conv_bias_C: Tensor | None,
        dt_bias_H: Tensor,
        A_H: Tensor,
        D_H: Tensor,
        norm_D: Tensor,
        eps: float,
        groups: int,
        chunk_size: int,
        seq_idx_BT: Tensor | None,
    ) -> Tensor:
        ctx.eps, ctx.groups = eps, groups
        z, xBC, dt = _slices(zxBCdt_BTW, norm_D, conv_CK)
        x, B, C = _scan_inputs(xBC, conv_CK, conv_bias_C, seq_idx_BT, D_H, norm_D, groups)
        y_BTHP, kept = scan_forward(x, dt, A_H, B, C, D_H, dt_bias_H, chunk_size, seq_idx_BT)
        ctx.save_for_backward(
            zxBCdt_BTW, conv_CK, conv_bias_C, dt_bias_H, A_H, D_H, norm_D, seq_idx_BT, y_BTHP, *kept
        )
        return norm_forward(y_BTHP.flatten(2), z, norm_D, eps, groups, zxBCdt_BTW.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor | None, ...]:
        zxBCdt_BTW, conv_CK, conv_bias_C, dt_bias_H, A_H, D_H, norm_D, seq_idx_BT, y_BTHP, *kept = (
            ctx.saved_tensors
        )
        z, xBC, dt = _slices(zxBCdt_BTW, norm_D, conv_CK)
        x, B, C = _scan_inputs(xBC, conv_CK, conv_bias_C, seq_idx_BT, D_H, norm_D, ctx.groups)
        dzxBCdt_BTW = torch.empty_like(zxBCdt_BTW)
        dz, dxBC, ddt = _slices(dzxBCdt_BTW, norm_D, conv_CK)
        dy_BTHP = torch.empty_like(y_BTHP)
        dnorm_D = norm_backward(
            grad_BTD, y_BTHP.flatten(2), z, norm_D, ctx.eps, ctx.groups, dy_BTHP.flatten(2), dz
        )
        dconved = torch.empty_like(xBC, memory_format=torch.contiguous_format)
        dx, dB, dC = _as_scan_inputs(dconved, D_H, norm_D, ctx.groups)
        dA_H, dD_H, ddt_bias_H = scan_backward(
            dy_BTHP,
            x,
            dt,
            A_H,
            B,
            C,
            D_H,
            dt_bias_H,
            seq_idx_BT,
            tuple(kept),
            dx_BTHP=dx,
            ddt_BTH=ddt,
            dB_BTGN=dB,
            dC_BTGN=dC,
        )
        written = _aligned(dxBC).transpose(1, 2)
        dxBC_BCT, dconv_CK, dconv_bias_C, *_ = causal_conv1d_bwd_function(
            _aligned(xBC).transpose(1, 2),
            conv_CK,
            conv_bias_C,
            dconved.transpose(1, 2),
            seq_idx_BT,
            None,
            None,
            written,
            False,
            True,
        )
        if dxBC_BCT.data_ptr() != dxBC.data_ptr():
            dxBC.copy_(dxBC_BCT.transpose(1, 2))
        return dzxBCdt_BTW, dconv_CK, dconv_bias_C, ddt_bias_H, dA_H, dD_H, dnorm_D, None, None, None, None


def _slices(zxBCdt_BTW: Tensor, norm_D: Tensor, conv_CK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gate, convolution inputs, raw dt: views."""
    inner, channels = norm_D.shape[0], conv_CK.shape[0]
    z, xBC, dt = zxBCdt_BTW.split((inner, channels, zxBCdt_BTW.shape[-1] - inner - channels), dim=-1)
    return z, xBC, dt


def _scan_inputs(
    xBC: Tensor,
    conv_CK: Tensor,
    bias_C: Tensor | None,
    seq_idx_BT: Tensor | None,
    D_H: Tensor,
    norm_D: Tensor,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """x [B, T, H, P], B and C [B, T, G, N] behind the convolution."""
    conved_BCT = causal_conv1d_fwd_function(
        _aligned(xBC).transpose(1, 2), conv_CK, bias_C, seq_idx_BT, None, None, True
    )
    return _as_scan_inputs(conved_BCT.transpose(1, 2), D_H, norm_D, groups)


def _as_scan_inputs(xBC: Tensor, D_H: Tensor, norm_D: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    inner, heads = norm_D.shape[0], D_H.shape[0]
    states = (xBC.shape[-1] - inner) // 2
    x, B, C = xBC.split((inner, states, states), dim=-1)
    return (
        x.unflatten(-1, (heads, -1)),
        B.unflatten(-1, (groups, -1)),
        C.unflatten(-1, (groups, -1)),
    )


def _aligned(x_BTC: Tensor) -> Tensor:
    """Rows that begin at multiples of 16 bytes, as causal-conv1d asks for: a copy where they do not."""
    aligned = x_BTC.stride(1) % 8 == 0 and x_BTC.data_ptr() % 16 == 0 and x_BTC.stride(2) == 1
    return x_BTC if aligned else x_BTC.contiguous()
