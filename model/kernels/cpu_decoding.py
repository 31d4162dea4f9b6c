"""Decoding on a CPU in compiled loops: one token's norms, products with a matrix, and the step between a Mamba block's
projections.

A decoding step of a small model touches so few numbers that most of its time goes into calling operations, some 60 in a
Mamba block; and a library made for products of matrices spends as long on preparing a product with one vector as on
reading the matrix. The loops read and write bfloat16 or float32 and compute in float32. `serves` says where they stand in:
small work, without gradients.

Shapes: B batch rows, n rows of a norm, D inputs and F outputs of a layer, I width of a Mamba block's input projection,
C conv channels, K conv width, J = K - 1, H heads, P head_dim, W = H P, G groups of R = H / G heads, N state size.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, overload, register_jitable
from torch import Tensor

from model.kernels.compiled import MACHINE_TYPES, Loop

MOST_NUMBERS = 2**20
"""Work on more numbers than this is left to PyTorch, which has all cores for it."""

Address = Any
Array = Any


def serves(x: Tensor, numbers: int) -> bool:
    """Whether work on activations `x` that touches this many numbers, in one matrix or state, may run here."""
    return (
        numbers <= MOST_NUMBERS
        and x.device.type == "cpu"
        and x.dtype in MACHINE_TYPES
        and not torch.is_grad_enabled()
    )


def rms_norm_step(x_nD: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in `dtype`; any leading axes."""
    out_nD = torch.empty(x_nD.shape, dtype=dtype)
    width = weight_D.shape[0]
    _rms_norm([x_nD, weight_D, out_nD], [x_nD.numel() // width, width], eps)
    return out_nD


def matvec(x_D: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> Tensor:
    """weight x + bias in the dtype of x; any leading axes of size 1."""
    outputs, inputs = weight_FD.shape
    out_F = x_D.new_empty(*x_D.shape[:-1], outputs)
    _matvec(
        [x_D, weight_FD, _or_unread(bias_F, weight_FD), out_F], [outputs, inputs, bias_F is not None], 0.0
    )
    return out_F


def mamba_step(
    projected_BI: Tensor,
    conv_BJC: Tensor,
    conv_weight_C1K: Tensor,
    conv_bias_C: Tensor | None,
    ssm_BHPN: Tensor,
    A_log_H: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    norm_weight_W: Tensor,
    groups: int,
    eps: float,
) -> Tensor:
    """One token of every row, from the output [B, 1, I] of a Mamba block's input projection to the input [B, 1, W] of its
    output projection.

    Convolution with SiLU, recurrence, gate and grouped norm, as `causal_conv_step`, `scan_step` and `gated_rms_norm` do it,
    without rounding inside the convolution. Updates `conv_BJC` and `ssm_BHPN` (float32) in place.
    """
    out_BW = projected_BI.new_empty(*projected_BI.shape[:-1], norm_weight_W.shape[0])
    tensors = [projected_BI, conv_BJC, conv_weight_C1K, _or_unread(conv_bias_C, conv_weight_C1K)]
    tensors += [ssm_BHPN, A_log_H, D_H, dt_bias_H, norm_weight_W, out_BW]
    _mamba_step(tensors, [*ssm_BHPN.shape, groups, conv_weight_C1K.shape[2], conv_bias_C is not None], eps)
    return out_BW


def _or_unread(bias: Tensor | None, instead: Tensor) -> Tensor:
    """A bias, or something with an address that is not read."""
    return instead if bias is None else bias


@intrinsic
def _float_of_bits(typing_context: Any, bits: Any) -> Any:
    return types.float32(types.uint32), lambda _, builder, __, values: builder.bitcast(
        values[0], ir.FloatType()
    )


@intrinsic
def _bits_of_float(typing_context: Any, number: Any) -> Any:
    return types.uint32(types.float32), lambda _, builder, __, values: builder.bitcast(
        values[0], ir.IntType(32)
    )


def _wide(number: Any) -> Any:
    """A stored number in float32; a uint16 holds the bits of a bfloat16."""


@overload(_wide)
def _compile_wide(number: Any) -> Callable[..., Any]:
    def of_bfloat16(number: Any) -> Any:
        return _float_of_bits(np.uint32(number) << np.uint32(16))  # type: ignore[call-arg]

    def of_float32(number: Any) -> Any:
        return number

    return of_bfloat16 if number == types.uint16 else of_float32


def _stored(number: Any, like: Any) -> Any:
    """A float32 as numbers like `like` are stored: itself, or the bits of the nearest bfloat16, ties to even."""


@overload(_stored)
def _compile_stored(number: Any, like: Any) -> Callable[..., Any]:
    def as_bfloat16(number: Any, like: Any) -> Any:
        bits: Any = _bits_of_float(number)  # type: ignore[call-arg]
        nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        return np.uint16(nearest) if number == number else np.uint16(0x7FC0)

    def as_float32(number: Any, like: Any) -> Any:
        return number

    return as_bfloat16 if like == types.uint16 else as_float32


@register_jitable
def _silu(number: float) -> Any:
    return number / (np.float32(1) + np.float32(math.exp(-number)))


@register_jitable
def _normalize(x_D: Array, weight_D: Array, eps: float, out_D: Array) -> None:
    squares = np.float32(0)
    for d in range(x_D.size):
        squares += _wide(x_D[d]) * _wide(x_D[d])
    scale = np.float32(1) / math.sqrt(squares / np.float32(x_D.size) + eps)
    for d in range(x_D.size):
        out_D[d] = _stored(_wide(x_D[d]) * scale * _wide(weight_D[d]), out_D[d])


@register_jitable
def _multiply(weight_FD: Array, x_D: Array, bias_F: Array, biased: int, out_F: Array) -> None:
    outputs, inputs = weight_FD.shape
    wide_D = np.empty(inputs, np.float32)
    for d in range(inputs):
        wide_D[d] = _wide(x_D[d])
    # Row by row, as the weights lie in memory: the processor fetches ahead along one stream, not along four (docs/log.md).
    for f in range(outputs):
        y = _wide(bias_F[f]) if biased else np.float32(0)
        for d in range(inputs):
            y += _wide(weight_FD[f, d]) * wide_D[d]
        out_F[f] = _stored(y, out_F[f])


@register_jitable
def _convolve(
    new_C: Array, conv_JC: Array, weight_CK: Array, bias_C: Array, biased: int, out_C: Array
) -> None:
    """SiLU of the convolution at the new input, which is its last tap and moves into the history."""
    history = conv_JC.shape[0]
    for c in range(out_C.size):
        total = _wide(new_C[c]) * _wide(weight_CK[c, history])
        for j in range(history):
            total += _wide(conv_JC[j, c]) * _wide(weight_CK[c, j])
        out_C[c] = total
    for j in range(history):
        for c in range(out_C.size):
            conv_JC[j, c] = conv_JC[j + 1, c] if j + 1 < history else new_C[c]
    for c in range(out_C.size):
        total = out_C[c] + _wide(bias_C[c]) if biased else out_C[c]
        out_C[c] = _wide(_stored(_silu(total), new_C[0]))


@register_jitable
def _mix(
    projected_I: Array,
    conv_JC: Array,
    conv_weight_CK: Array,
    conv_bias_C: Array,
    biased: int,
    ssm_HPN: Array,
    A_log_H: Array,
    D_H: Array,
    dt_bias_H: Array,
    norm_weight_W: Array,
    groups: int,
    eps: float,
    out_W: Array,
) -> None:
    heads, head_dim, state_size = ssm_HPN.shape
    channels, group_heads = conv_JC.shape[1], heads // groups
    gate_W, new_C, dt_H = projected_I[: out_W.size], projected_I[out_W.size : -heads], projected_I[-heads:]
    xBC_C, y_W = np.empty(channels, np.float32), np.empty(out_W.size, np.float32)
    _convolve(new_C, conv_JC, conv_weight_CK, conv_bias_C, biased, xBC_C)
    B_GN = xBC_C[out_W.size : out_W.size + groups * state_size].reshape(groups, state_size)
    C_GN = xBC_C[out_W.size + groups * state_size :].reshape(groups, state_size)
    for g in range(groups):
        squares = np.float32(0)
        for h in range(g * group_heads, (g + 1) * group_heads):
            dt = _wide(dt_H[h]) + _wide(dt_bias_H[h])
            if dt <= np.float32(20):  # softplus, which is the identity beyond
                dt = np.float32(math.log1p(math.exp(dt)))
            decay = np.float32(math.exp(-np.float32(math.exp(_wide(A_log_H[h]))) * dt))
            for p in range(head_dim):
                w = h * head_dim + p
                dtx, y = dt * xBC_C[w], np.float32(0)
                for n in range(state_size):
                    state = ssm_HPN[h, p, n] * decay + dtx * B_GN[g, n]
                    ssm_HPN[h, p, n] = state
                    y += state * C_GN[g, n]
                y_W[w] = (y + _wide(D_H[h]) * xBC_C[w]) * _silu(_wide(gate_W[w]))
                squares += y_W[w] * y_W[w]
        group_width = group_heads * head_dim
        scale = np.float32(1) / math.sqrt(squares / np.float32(group_width) + eps)
        for w in range(g * group_width, (g + 1) * group_width):
            out_W[w] = _stored(y_W[w] * scale * _wide(norm_weight_W[w]), out_W[w])


@Loop
def _rms_norm(x_at: Address, weight_at: Address, out_at: Address, rows: int, width: int, eps: float) -> None:
    x_nD, weight_D, out_nD = (
        carray(x_at, (rows, width)),
        carray(weight_at, width),
        carray(out_at, (rows, width)),
    )
    for n in range(rows):
        _normalize(x_nD[n], weight_D, eps, out_nD[n])


@Loop
def _matvec(
    x_at: Address,
    weight_at: Address,
    bias_at: Address,
    out_at: Address,
    outputs: int,
    inputs: int,
    biased: int,
    _: float,
) -> None:
    weight_FD, bias_F = carray(weight_at, (outputs, inputs)), carray(bias_at, outputs)
    _multiply(weight_FD, carray(x_at, inputs), bias_F, biased, carray(out_at, outputs))


@Loop
def _mamba_step(
    projected_at: Address,
    conv_at: Address,
    conv_weight_at: Address,
    conv_bias_at: Address,
    ssm_at: Address,
    A_log_at: Address,
    D_at: Address,
    dt_bias_at: Address,
    norm_weight_at: Address,
    out_at: Address,
    batch: int,
    heads: int,
    head_dim: int,
    state_size: int,
    groups: int,
    conv_width: int,
    biased: int,
    eps: float,
) -> None:
    width = heads * head_dim
    channels = width + 2 * groups * state_size
    projected_BI, out_BW = (
        carray(projected_at, (batch, width + channels + heads)),
        carray(out_at, (batch, width)),
    )
    conv_BJC = carray(conv_at, (batch, conv_width - 1, channels))
    ssm_BHPN = carray(ssm_at, (batch, heads, head_dim, state_size))
    for b in range(batch):
        _mix(
            projected_BI[b],
            conv_BJC[b],
            carray(conv_weight_at, (channels, conv_width)),
            carray(conv_bias_at, channels),
            biased,
            ssm_BHPN[b],
            carray(A_log_at, heads),
            carray(D_at, heads),
            carray(dt_bias_at, heads),
            carray(norm_weight_at, width),
            groups,
            eps,
            out_BW[b],
        )
