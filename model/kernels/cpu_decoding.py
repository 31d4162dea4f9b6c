"""Decoding on a CPU in compiled loops (`cpu_loops`): whole Mamba and MLP blocks for one token of each row; where the work is
too large for that, and in between, norms, products with few rows, and the step between a Mamba block's projections.

A decoding step of a small model touches so few numbers that most of its time goes into calling operations, some 60 in a
Mamba block; and a library made for products of matrices spends as long on preparing a product with few rows as on
the product. The loops read and write bfloat16 or float32 and compute in float32. `serves` says where they stand in:
small work, without gradients.

Shapes: B batch rows, n rows of a norm, D hidden size or inputs, F outputs or inner width, I width of in_proj,
C conv channels, K conv width, J = K - 1, H heads, P head_dim, W = H P, G groups of R = H / G heads, N state size;
Q all query heads' width, k key/value heads, h head_dim, E = k h, S cached tokens of room.
"""

import torch
from torch import Tensor

from model.kernels import cpu_loops
from model.kernels.compiled import MACHINE_TYPES

MOST_NUMBERS = 2**20
"""Work on more numbers than this is left to PyTorch, which has all cores for it."""

MOST_PRODUCTS = 2**22
"""As many multiplications, of a matrix or a cache with all rows, at most: a core needs some 0.2 ms for them."""


def serves(x: Tensor, numbers: int) -> bool:
    """Whether work on activations `x` that touches this many numbers, in one matrix or state, may run here."""
    return (
        numbers <= MOST_NUMBERS
        and x.device.type == "cpu"
        and x.dtype in MACHINE_TYPES
        and not torch.is_grad_enabled()
    )


def serves_rows(x: Tensor, weight_FD: Tensor, numbers: int) -> bool:
    """Whether a product of the rows of `x` [..., D] with such a weight, or a block with a matrix of so many `numbers`, may
    run here."""
    return (
        x.dtype == weight_FD.dtype
        and numbers * x.numel() <= MOST_PRODUCTS * weight_FD.shape[1]
        and x.is_contiguous()
        and serves(x, numbers)
    )


def rms_norm_step(x_nD: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in `dtype`; any leading axes."""
    out_nD = torch.empty(x_nD.shape, dtype=dtype)
    width = weight_D.shape[0]
    cpu_loops.rms_norm([x_nD, weight_D, out_nD], [x_nD.numel() // width, width], eps)
    return out_nD


def matmul(x_BD: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> Tensor:
    """x weight^T + bias in the dtype of x; any leading axes."""
    outputs, inputs = weight_FD.shape
    out_BF = x_BD.new_empty(*x_BD.shape[:-1], outputs)
    sizes = [x_BD.numel() // inputs, outputs, inputs, bias_F is not None]
    cpu_loops.matmul([x_BD, weight_FD, _or_unread(bias_F, weight_FD), out_BF], sizes, 0.0)
    return out_BF


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
    cpu_loops.mamba_step(
        tensors, [*ssm_BHPN.shape, groups, conv_weight_C1K.shape[2], conv_bias_C is not None], eps
    )
    return out_BW


def mlp_block(
    x_B1D: Tensor,
    norm_weight_D: Tensor,
    eps: float,
    up_FD: Tensor,
    up_bias_F: Tensor | None,
    down_DF: Tensor,
    down_bias_D: Tensor | None,
) -> Tensor:
    """x + down(relu(up(norm(x)))^2) for one token of each row, rounded once, at the end. Both biases or none."""
    out_B1D = torch.empty_like(x_B1D)
    tensors = [x_B1D, norm_weight_D, up_FD, _or_unread(up_bias_F, up_FD), down_DF]
    tensors += [_or_unread(down_bias_D, down_DF), out_B1D]
    inner, width = up_FD.shape
    cpu_loops.mlp_block(tensors, [x_B1D.shape[0], width, inner, up_bias_F is not None], eps)
    return out_B1D


def attention_block(
    x_B1D: Tensor,
    norm_weight_D: Tensor,
    eps: float,
    q_proj_QD: Tensor,
    k_proj_ED: Tensor,
    v_proj_ED: Tensor,
    o_proj_DQ: Tensor,
    key_BSkh: Tensor,
    value_BSkh: Tensor,
    lengths_B: Tensor,
) -> Tensor:
    """x + attention(norm(x)) for one token of each row, rounded once, at the end. No biases.

    Row b's token comes behind `lengths_B[b]` (int64) cached ones; its key and value are stored there, and it sees them all.
    """
    out_B1D = torch.empty_like(x_B1D)
    tensors = [x_B1D, norm_weight_D, q_proj_QD, k_proj_ED, v_proj_ED, o_proj_DQ]
    tensors += [key_BSkh, value_BSkh, lengths_B, out_B1D]
    rows, room, key_heads, head_dim = key_BSkh.shape
    sizes = [rows, x_B1D.shape[2], q_proj_QD.shape[0] // head_dim, key_heads, head_dim, room]
    cpu_loops.attention_block(tensors, sizes, eps)
    return out_B1D


def mamba_block(
    x_B1D: Tensor,
    norm_weight_D: Tensor,
    eps: float,
    in_proj_ID: Tensor,
    in_bias_I: Tensor | None,
    conv_BJC: Tensor,
    conv_weight_C1K: Tensor,
    conv_bias_C: Tensor | None,
    ssm_BHPN: Tensor,
    A_log_H: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    gated_norm_weight_W: Tensor,
    groups: int,
    out_proj_DW: Tensor,
    out_bias_D: Tensor | None,
) -> Tensor:
    """x + out_proj(mamba_step(in_proj(norm(x)))) for one token of each row, rounded once, at the end.

    Both projections have a bias or none; `eps` is that of both norms. Updates `conv_BJC` and `ssm_BHPN` in place.
    """
    out_B1D = torch.empty_like(x_B1D)
    tensors = [x_B1D, norm_weight_D, in_proj_ID, _or_unread(in_bias_I, in_proj_ID)]
    tensors += [conv_BJC, conv_weight_C1K, _or_unread(conv_bias_C, conv_weight_C1K)]
    tensors += [ssm_BHPN, A_log_H, D_H, dt_bias_H, gated_norm_weight_W]
    tensors += [out_proj_DW, _or_unread(out_bias_D, out_proj_DW), out_B1D]
    rows, *shape = ssm_BHPN.shape
    sizes = [rows, in_proj_ID.shape[1], *shape, groups, conv_weight_C1K.shape[2]]
    cpu_loops.mamba_block(tensors, [*sizes, conv_bias_C is not None, in_bias_I is not None], eps)
    return out_B1D


def _or_unread(bias: Tensor | None, instead: Tensor) -> Tensor:
    """A bias, or something with an address that is not read."""
    return instead if bias is None else bias
