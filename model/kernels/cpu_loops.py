"""The compiled bodies of `cpu_decoding`: what Numba makes machine code of.

They read and write bfloat16 or float32 and compute in float32. Inside, a row's numbers stay in float32 from one product
to the next.

Shapes: B batch rows, b the same filled up to a number that products like, n rows of a norm, D hidden size or inputs,
F outputs or inner width, I width of in_proj, C conv channels, K conv width, J = K - 1, H heads, P head_dim, W = H P,
G groups of R = H / G heads, N state size; q query heads, k key/value heads, h head_dim, S cached tokens of room.
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
def _exp(number: Any) -> Any:
    """e^x in vectors, where the processor's own function goes one by one; to 2 units in the last place between e^-87.6 and
    e^88.3, and 0 and infinity beyond.

    As 2^n e^r with |r| <= ln 2 / 2, and e^r by the polynomial of Cephes (Moshier 1989).
    """
    x = number if number > np.float32(-88) else np.float32(-88)
    x = x if x < np.float32(89) else np.float32(89)
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + np.float32(5.0000001201e-1)
    y = y * r * r + r + np.float32(1)
    power: Any = _float_of_bits(np.uint32((np.int32(n) + np.int32(127)) << np.int32(23)))  # type: ignore[call-arg]
    return y * power if number == number else number


@register_jitable
def _silu(number: Any) -> Any:
    return number / (np.float32(1) + _exp(-number))


@register_jitable
def _normalize(x_D: Array, weight_D: Array, eps: float, out_D: Array) -> None:
    squares = np.float32(0)
    for d in range(x_D.size):
        squares += _wide(x_D[d]) * _wide(x_D[d])
    scale = np.float32(1) / math.sqrt(squares / np.float32(x_D.size) + eps)
    for d in range(x_D.size):
        out_D[d] = _stored(_wide(x_D[d]) * scale * _wide(weight_D[d]), out_D[d])


@register_jitable
def _filled(rows: int) -> int:
    """How many rows a product is made for: one alone, or fours."""
    return 1 if rows == 1 else (rows + 3) // 4 * 4


@register_jitable
def _multiply(weight_FD: Array, x_bD: Array, bias_F: Array, biased: int, out_bF: Array) -> None:
    """x weight^T + bias; x and out in float32, one row or a multiple of four."""
    outputs = weight_FD.shape[0]
    if x_bD.shape[0] == 1:
        # Row by row, as the weights lie in memory: the processor fetches ahead along one stream, not four (docs/log.md).
        for f in range(outputs):
            y = np.float32(0)
            for d in range(weight_FD.shape[1]):
                y += _wide(weight_FD[f, d]) * x_bD[0, d]
            out_bF[0, f] = y
    else:
        for b in range(0, x_bD.shape[0], 4):
            for f in range(0, outputs - 1, 2):
                _multiply_4_by_2(weight_FD[f], weight_FD[f + 1], x_bD, b, out_bF, f)
            if outputs % 2:
                _multiply_4_by_2(weight_FD[outputs - 1], weight_FD[outputs - 1], x_bD, b, out_bF, -1)
    if biased:
        for b in range(x_bD.shape[0]):
            for f in range(outputs):
                out_bF[b, f] += _wide(bias_F[f])


@register_jitable
def _multiply_4_by_2(u_D: Array, v_D: Array, x_bD: Array, b: int, out_bF: Array, f: int) -> None:
    """Two outputs of four rows: each number that is loaded is used several times, and the sums stay in registers.
    f of -1: the last output, twice."""
    x0_D, x1_D, x2_D, x3_D = x_bD[b], x_bD[b + 1], x_bD[b + 2], x_bD[b + 3]
    u0 = u1 = u2 = u3 = v0 = v1 = v2 = v3 = np.float32(0)
    for d in range(x0_D.size):
        u, v = _wide(u_D[d]), _wide(v_D[d])
        u0 += u * x0_D[d]
        u1 += u * x1_D[d]
        u2 += u * x2_D[d]
        u3 += u * x3_D[d]
        v0 += v * x0_D[d]
        v1 += v * x1_D[d]
        v2 += v * x2_D[d]
        v3 += v * x3_D[d]
    out_bF[b, f], out_bF[b + 1, f], out_bF[b + 2, f], out_bF[b + 3, f] = u0, u1, u2, u3
    if f >= 0:
        out_bF[b, f + 1], out_bF[b + 1, f + 1], out_bF[b + 2, f + 1], out_bF[b + 3, f + 1] = v0, v1, v2, v3


@register_jitable
def _normalized(x_BD: Array, weight_D: Array, eps: float) -> Array:
    """The norms of all rows in float32, filled up with zeros for `_multiply`."""
    normal_bD = np.zeros((_filled(x_BD.shape[0]), x_BD.shape[1]), np.float32)
    for b in range(x_BD.shape[0]):
        _normalize(x_BD[b], weight_D, eps, normal_bD[b])
    return normal_bD


@register_jitable
def _add(x_BD: Array, y_bD: Array, out_BD: Array) -> None:
    for b in range(x_BD.shape[0]):
        for d in range(x_BD.shape[1]):
            out_BD[b, d] = _stored(_wide(x_BD[b, d]) + y_bD[b, d], out_BD[b, d])


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
    if biased:
        for c in range(out_C.size):
            out_C[c] += _wide(bias_C[c])
    for c in range(out_C.size):
        out_C[c] = _wide(_stored(_silu(out_C[c]), new_C[0]))


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
                dt = np.float32(math.log1p(_exp(dt)))
            decay = _exp(-_exp(_wide(A_log_H[h])) * dt)
            for p in range(head_dim):
                w = h * head_dim + p
                dtx, y = dt * xBC_C[w], np.float32(0)
                for n in range(state_size):
                    state = ssm_HPN[h, p, n] * decay + dtx * B_GN[g, n]
                    ssm_HPN[h, p, n] = state
                    y += state * C_GN[g, n]
                y_W[w] = y + _wide(D_H[h]) * xBC_C[w]
        group_width = group_heads * head_dim
        for w in range(g * group_width, (g + 1) * group_width):
            y_W[w] *= _silu(_wide(gate_W[w]))
            squares += y_W[w] * y_W[w]
        scale = np.float32(1) / math.sqrt(squares / np.float32(group_width) + eps)
        for w in range(g * group_width, (g + 1) * group_width):
            out_W[w] = _stored(y_W[w] * scale * _wide(norm_weight_W[w]), out_W[w])


@register_jitable
def _attend(query_qh: Array, key_Skh: Array, value_Skh: Array, seen: int, out_qh: Array) -> None:
    """Softmax attention of one token's query heads over the first `seen` cached tokens; query scaled."""
    query_heads, head_dim = query_qh.shape
    group = query_heads // key_Skh.shape[1]
    scores_qs = np.empty((query_heads, seen), np.float32)
    for s in range(seen):
        for q in range(query_heads):
            score = np.float32(0)
            for h in range(head_dim):
                score += query_qh[q, h] * _wide(key_Skh[s, q // group, h])
            scores_qs[q, s] = score
    for q in range(query_heads):
        best, total = scores_qs[q, 0], np.float32(0)
        for s in range(1, seen):
            best = max(best, scores_qs[q, s])
        for s in range(seen):
            scores_qs[q, s] = _exp(scores_qs[q, s] - best)
            total += scores_qs[q, s]
        for h in range(head_dim):
            out_qh[q, h] = np.float32(0)
        for s in range(seen):
            share = scores_qs[q, s] / total
            for h in range(head_dim):
                out_qh[q, h] += share * _wide(value_Skh[s, q // group, h])


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
def matmul(
    x_at: Address,
    weight_at: Address,
    bias_at: Address,
    out_at: Address,
    rows: int,
    outputs: int,
    inputs: int,
    biased: int,
    _: float,
) -> None:
    x_BD, out_BF = carray(x_at, (rows, inputs)), carray(out_at, (rows, outputs))
    x_bD = np.zeros((_filled(rows), inputs), np.float32)
    y_bF = np.empty((_filled(rows), outputs), np.float32)
    for b in range(rows):
        for d in range(inputs):
            x_bD[b, d] = _wide(x_BD[b, d])
    _multiply(carray(weight_at, (outputs, inputs)), x_bD, carray(bias_at, outputs), biased, y_bF)
    for b in range(rows):
        for f in range(outputs):
            out_BF[b, f] = _stored(y_bF[b, f], out_BF[b, f])


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
    rows: int,
    width: int,
    inner: int,
    biased: int,
    eps: float,
) -> None:
    x_BD, out_BD = carray(x_at, (rows, width)), carray(out_at, (rows, width))
    normal_bD = _normalized(x_BD, carray(norm_at, width), eps)
    inner_bF = np.empty((normal_bD.shape[0], inner), np.float32)
    y_bD = np.empty((normal_bD.shape[0], width), np.float32)
    _multiply(carray(up_at, (inner, width)), normal_bD, carray(up_bias_at, inner), biased, inner_bF)
    for b in range(rows):
        for f in range(inner):
            x = inner_bF[b, f]
            inner_bF[b, f] = x * x if not x <= np.float32(0) else np.float32(0)
    _multiply(carray(down_at, (width, inner)), inner_bF, carray(down_bias_at, width), biased, y_bD)
    _add(x_BD, y_bD, out_BD)


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
    rows: int,
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
    x_BD, out_BD = carray(x_at, (rows, hidden)), carray(out_at, (rows, hidden))
    conv_BJC = carray(conv_at, (rows, conv_width - 1, channels))
    ssm_BHPN = carray(ssm_at, (rows, heads, head_dim, state_size))
    normal_bD = _normalized(x_BD, carray(norm_at, hidden), eps)
    projected_bI = np.empty((normal_bD.shape[0], projections), np.float32)
    mixed_bW = np.zeros((normal_bD.shape[0], width), np.float32)
    y_bD = np.empty((normal_bD.shape[0], hidden), np.float32)
    _multiply(
        carray(in_at, (projections, hidden)), normal_bD, carray(in_bias_at, projections), biased, projected_bI
    )
    for b in range(rows):
        _mix(
            projected_bI[b],
            conv_BJC[b],
            carray(conv_weight_at, (channels, conv_width)),
            carray(conv_bias_at, channels),
            conv_biased,
            ssm_BHPN[b],
            carray(A_log_at, heads),
            carray(D_at, heads),
            carray(dt_bias_at, heads),
            carray(gated_norm_at, width),
            groups,
            eps,
            mixed_bW[b],
        )
    _multiply(carray(out_proj_at, (hidden, width)), mixed_bW, carray(out_bias_at, hidden), biased, y_bD)
    _add(x_BD, y_bD, out_BD)


@Loop
def attention_block(
    x_at: Address,
    norm_at: Address,
    q_proj_at: Address,
    k_proj_at: Address,
    v_proj_at: Address,
    o_proj_at: Address,
    key_at: Address,
    value_at: Address,
    lengths_at: Address,
    out_at: Address,
    rows: int,
    hidden: int,
    query_heads: int,
    key_heads: int,
    head_dim: int,
    room: int,
    eps: float,
) -> None:
    query_width, key_width = query_heads * head_dim, key_heads * head_dim
    x_BD, out_BD = carray(x_at, (rows, hidden)), carray(out_at, (rows, hidden))
    key_BSkh = carray(key_at, (rows, room, key_heads, head_dim))
    value_BSkh = carray(value_at, (rows, room, key_heads, head_dim))
    lengths_B = carray(lengths_at, rows)
    normal_bD = _normalized(x_BD, carray(norm_at, hidden), eps)
    filled = normal_bD.shape[0]
    query_bQ, key_bE = np.empty((filled, query_width), np.float32), np.empty((filled, key_width), np.float32)
    value_bE, mixed_bQ = (
        np.empty((filled, key_width), np.float32),
        np.zeros((filled, query_width), np.float32),
    )
    y_bD = np.empty((filled, hidden), np.float32)
    no_bias = normal_bD[0]
    _multiply(carray(q_proj_at, (query_width, hidden)), normal_bD, no_bias, 0, query_bQ)
    _multiply(carray(k_proj_at, (key_width, hidden)), normal_bD, no_bias, 0, key_bE)
    _multiply(carray(v_proj_at, (key_width, hidden)), normal_bD, no_bias, 0, value_bE)
    scale = np.float32(1) / math.sqrt(np.float32(head_dim))
    for b in range(rows):
        here = lengths_B[b]
        for k in range(key_heads):
            for h in range(head_dim):
                key_BSkh[b, here, k, h] = _stored(key_bE[b, k * head_dim + h], key_BSkh[b, here, k, h])
                value_BSkh[b, here, k, h] = _stored(value_bE[b, k * head_dim + h], value_BSkh[b, here, k, h])
        for d in range(query_width):
            query_bQ[b, d] *= scale
        _attend(
            query_bQ[b].reshape(query_heads, head_dim),
            key_BSkh[b],
            value_BSkh[b],
            here + 1,
            mixed_bQ[b].reshape(query_heads, head_dim),
        )
    _multiply(carray(o_proj_at, (hidden, query_width)), mixed_bQ, no_bias, 0, y_bD)
    _add(x_BD, y_bD, out_BD)
