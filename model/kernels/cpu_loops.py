"""The compiled bodies of `cpu_decoding`: what Numba makes machine code of.

They read and write bfloat16 or float32 and compute in float32. Inside, a row's numbers stay in float32 from one product
to the next.

Shapes: B batch rows, n rows of a norm, D hidden size or inputs, F outputs or inner width, I width of in_proj,
C conv channels, K conv width, J = K - 1, H heads, P head_dim, W = H P, G groups of R = H / G heads, N state size.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, overload, register_jitable

from model.kernels.compiled import Loop

Address = Any
Array = Any


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
            conv_JC[j, c] = conv_JC[j + 1, c] if j + 1 < history else _stored(_wide(new_C[c]), conv_JC[j, c])
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
def rms_norm(x_at: Address, weight_at: Address, out_at: Address, rows: int, width: int, eps: float) -> None:
    x_nD, weight_D, out_nD = (
        carray(x_at, (rows, width)),
        carray(weight_at, width),
        carray(out_at, (rows, width)),
    )
    for n in range(rows):
        _normalize(x_nD[n], weight_D, eps, out_nD[n])


@Loop
def matvec(
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
def mamba_step(
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


@Loop
def mlp_block(
    x_at: Address,
    norm_at: Address,
    up_at: Address,
    up_bias_at: Address,
    down_at: Address,
    down_bias_at: Address,
    out_at: Address,
    width: int,
    inner: int,
    biased: int,
    eps: float,
) -> None:
    x_D, out_D = carray(x_at, width), carray(out_at, width)
    normal_D, inner_F, y_D = (
        np.empty(width, np.float32),
        np.empty(inner, np.float32),
        np.empty(width, np.float32),
    )
    _normalize(x_D, carray(norm_at, width), eps, normal_D)
    _multiply(carray(up_at, (inner, width)), normal_D, carray(up_bias_at, inner), biased, inner_F)
    for f in range(inner):
        inner_F[f] = inner_F[f] * inner_F[f] if not inner_F[f] <= np.float32(0) else np.float32(0)
    _multiply(carray(down_at, (width, inner)), inner_F, carray(down_bias_at, width), biased, y_D)
    for d in range(width):
        out_D[d] = _stored(_wide(x_D[d]) + y_D[d], out_D[d])


@Loop
def mamba_block(
    x_at: Address,
    norm_at: Address,
    in_at: Address,
    in_bias_at: Address,
    conv_at: Address,
    conv_weight_at: Address,
    conv_bias_at: Address,
    ssm_at: Address,
    A_log_at: Address,
    D_at: Address,
    dt_bias_at: Address,
    gated_norm_at: Address,
    out_proj_at: Address,
    out_bias_at: Address,
    out_at: Address,
    hidden: int,
    heads: int,
    head_dim: int,
    state_size: int,
    groups: int,
    conv_width: int,
    conv_biased: int,
    biased: int,
    eps: float,
) -> None:
    width = heads * head_dim
    channels = width + 2 * groups * state_size
    projections = width + channels + heads
    x_D, out_D = carray(x_at, hidden), carray(out_at, hidden)
    normal_D, projected_I = np.empty(hidden, np.float32), np.empty(projections, np.float32)
    mixed_W, y_D = np.empty(width, np.float32), np.empty(hidden, np.float32)
    _normalize(x_D, carray(norm_at, hidden), eps, normal_D)
    _multiply(
        carray(in_at, (projections, hidden)), normal_D, carray(in_bias_at, projections), biased, projected_I
    )
    _mix(
        projected_I,
        carray(conv_at, (conv_width - 1, channels)),
        carray(conv_weight_at, (channels, conv_width)),
        carray(conv_bias_at, channels),
        conv_biased,
        carray(ssm_at, (heads, head_dim, state_size)),
        carray(A_log_at, heads),
        carray(D_at, heads),
        carray(dt_bias_at, heads),
        carray(gated_norm_at, width),
        groups,
        eps,
        mixed_W,
    )
    _multiply(carray(out_proj_at, (hidden, width)), mixed_W, carray(out_bias_at, hidden), biased, y_D)
    for d in range(hidden):
        out_D[d] = _stored(_wide(x_D[d]) + y_D[d], out_D[d])
