"""The short causal depthwise convolution with SiLU of a Mamba block, reset at document boundaries.

K shifted multiply-adds over [T, C] rows, in float32 at least: no transposes, and a tap that reaches into an earlier document
is masked in place. The backward pass computes the convolution again instead of keeping it.

Shapes: B batch, T tokens, C channels, K conv width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels import choice
from model.kernels.documents import Documents


def causal_conv(
    x_BTC: Tensor, weight_CK: Tensor, bias_C: Tensor | None, documents: Documents | None = None
) -> Tensor:
    """silu(conv(x)) [B, T, C]; before the first token, and beyond a document's start, x counts as zero."""
    (y_BTC,) = split_causal_conv(x_BTC, weight_CK, bias_C, documents, (x_BTC.shape[2],))
    return y_BTC


def split_causal_conv(
    x_BTC: Tensor,
    weight_CK: Tensor,
    bias_C: Tensor | None,
    documents: Documents | None,
    widths: tuple[int, ...],
) -> tuple[Tensor, ...]:
    """`causal_conv` cut into pieces of these widths; no copies join the pieces' gradients."""
    if choice.fused_conv(x_BTC, weight_CK.shape[1]):
        from model.kernels.cuda.mamba import conv

        return conv(x_BTC, weight_CK, bias_C, documents).split(widths, dim=2)
    runs_BT = None if documents is None else documents.runs_BT
    return _CausalConv.apply(x_BTC, weight_CK, bias_C, runs_BT, widths)


def causal_conv_step(
    x_BTC: Tensor,
    weight_CK: Tensor,
    bias_C: Tensor | None,
    state_BJC: Tensor,
    counts_B: Tensor | None = None,
) -> Tensor:
    """As `causal_conv` for tokens that follow others. `state_BJC` holds the K - 1 inputs before; updated in place, to those
    before the end of row b's first `counts_B[b]` tokens (None: of all)."""
    history = state_BJC.shape[1]
    window_BSC = torch.cat([state_BJC, x_BTC], dim=1)
    if counts_B is None:
        state_BJC.copy_(window_BSC[:, -history:])
    else:
        place_BJ = counts_B[:, None] + torch.arange(history, device=counts_B.device)
        state_BJC.copy_(window_BSC.gather(1, place_BJ[..., None].expand_as(state_BJC)))
    if x_BTC.shape[1] == 1:
        y_BC = window_BSC.mul_(weight_CK.t()).sum(1)
        return F.silu(y_BC if bias_C is None else y_BC.add_(bias_C), inplace=True)[:, None]
    return causal_conv(window_BSC, weight_CK, bias_C)[:, history:]


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BTC: Tensor,
        weight_CK: Tensor,
        bias_C: Tensor | None,
        runs_BT: Tensor | None,
        widths: tuple[int, ...],
    ) -> tuple[Tensor, ...]:
        wide = torch.promote_types(x_BTC.dtype, torch.float32)
        weight_KC = weight_CK.t().to(wide).contiguous()
        y_BTC = torch.empty(x_BTC.shape, dtype=x_BTC.dtype, device=x_BTC.device)
        for b in range(x_BTC.shape[0]):
            y_TC = y_BTC[b] if y_BTC.dtype == wide else torch.empty_like(y_BTC[b], dtype=wide)
            _convolve(x_BTC[b].to(wide), weight_KC, bias_C, _taps(runs_BT, b, weight_KC), y_TC)
            F.silu(y_TC, inplace=True)
            if y_BTC.dtype != wide:
                y_BTC[b] = y_TC
        ctx.save_for_backward(x_BTC, weight_KC, bias_C, runs_BT)
        ctx.widths, ctx.weight_dtype = widths, weight_CK.dtype
        return y_BTC.split(widths, dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_BTC, weight_KC, bias_C, runs_BT = ctx.saved_tensors
        dx_BTC = torch.empty(x_BTC.shape, dtype=x_BTC.dtype, device=x_BTC.device)
        wide = weight_KC.dtype
        dweight_KC = torch.zeros_like(weight_KC)
        dbias_C = None if bias_C is None else torch.zeros_like(bias_C, dtype=wide)
        pre_TC = torch.empty(x_BTC.shape[1:], dtype=wide, device=x_BTC.device)
        dpre_TC, product_TC = torch.empty_like(pre_TC), torch.empty_like(pre_TC)
        for b in range(x_BTC.shape[0]):
            x_TC, taps = x_BTC[b].to(wide), _taps(runs_BT, b, weight_KC)
            _convolve(x_TC, weight_KC, bias_C, taps, pre_TC)
            for grad, pre, dpre in zip(
                grads, pre_TC.split(ctx.widths, 1), dpre_TC.split(ctx.widths, 1), strict=True
            ):
                torch.ops.aten.silu_backward.grad_input(grad[b].to(wide), pre, grad_input=dpre)
            last = weight_KC.shape[0] - 1
            dx_TC = dx_BTC[b] if dx_BTC.dtype == wide else torch.empty_like(dx_BTC[b], dtype=wide)
            torch.mul(dpre_TC, weight_KC[last], out=dx_TC)
            dweight_KC[last] += torch.mul(dpre_TC, x_TC, out=product_TC).sum(0, dtype=wide)
            if dbias_C is not None:
                dbias_C += dpre_TC.sum(0, dtype=wide)
            for back, same_T1 in enumerate(taps, start=1):
                dlater_TC = dpre_TC[back:] if same_T1 is None else dpre_TC[back:] * same_T1
                dx_TC[:-back].addcmul_(dlater_TC, weight_KC[last - back])
                dweight_KC[last - back] += torch.mul(dlater_TC, x_TC[:-back], out=product_TC[back:]).sum(
                    0, dtype=wide
                )
            if dx_BTC.dtype != wide:
                dx_BTC[b] = dx_TC
        dbias = None if dbias_C is None else dbias_C.to(bias_C.dtype)
        return dx_BTC, dweight_KC.t().to(ctx.weight_dtype), dbias, None, None


def _taps(runs_BT: Tensor | None, b: int, weight_KC: Tensor) -> list[Tensor | None]:
    """For each distance 1 .. K-1: None, or a [T - distance, 1] mask of the pairs inside one document."""
    distances = range(1, weight_KC.shape[0])
    if runs_BT is None:
        return [None for _ in distances]
    runs_T = runs_BT[b]
    return [(runs_T[back:] == runs_T[:-back])[:, None].to(weight_KC.dtype) for back in distances]


def _convolve(
    x_TC: Tensor, weight_KC: Tensor, bias_C: Tensor | None, taps: list[Tensor | None], out_TC: Tensor
) -> None:
    last = weight_KC.shape[0] - 1
    torch.mul(x_TC, weight_KC[last], out=out_TC)
    if bias_C is not None:
        out_TC += bias_C
    for back, same_T1 in enumerate(taps, start=1):
        earlier_TC = x_TC[:-back] if same_T1 is None else x_TC[:-back] * same_T1
        out_TC[back:].addcmul_(earlier_TC, weight_KC[last - back])
