"""The scan of a row whose tokens lie on several ranks.

Every rank scans its piece as if nothing came before it. Of the piece it then tells the others the state at its end and how
much of an earlier state survives there; the state that enters piece q, and what it adds to the outputs, follows from these:

    enter_q = leave_{q-1}          leave_q = state_q + survives_q enter_q          y_t += exp(a_t) C_t enter_q

with a_t the running sum of dt A since the piece's start. All scans run side by side, forward and backward.

Shapes: B batch, T tokens of a piece, H heads, P head_dim, G groups, N state size, r ranks.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels.scan import chunked_scan
from model.parallel.context import Context, RowPiece


def scan_piece(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_log_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    chunk_size: int,
    piece: RowPiece,
) -> Tensor:
    """y [B, T, H, P] of this rank's tokens, in the dtype of x. `dt_BTH` is raw, before its bias."""
    y_BTHP, state_BHPN = chunked_scan(
        x_BTHP, dt_BTH, A_log_H, B_BTGN, C_BTGN, D_H, dt_bias_H, chunk_size, piece.documents
    )
    wide = state_BHPN.dtype
    a_BTH = (F.softplus(dt_BTH.to(wide) + dt_bias_H.to(wide)) * -torch.exp(A_log_H.to(wide))).cumsum(1)
    survives_BTH = torch.exp(a_BTH) * piece.goes_on_BT[..., None]
    enter_BHPN = _Enter.apply(state_BHPN, survives_BTH[:, -1], piece.context)
    enter_BGMN = enter_BHPN.flatten(1, 2).unflatten(1, (B_BTGN.shape[2], -1))
    carried_BTGM = torch.einsum("btgn,bgmn->btgm", C_BTGN.to(wide), enter_BGMN)
    carried_BTHP = carried_BTGM.flatten(2).view(x_BTHP.shape) * survives_BTH[..., None]
    return (y_BTHP + carried_BTHP).to(x_BTHP.dtype)


class _Enter(torch.autograd.Function):
    """Of the state at a piece's end, scanned from zero, and the share [B, H] of an earlier one that survives there: the
    state that enters the piece."""

    @staticmethod
    def forward(ctx: Any, state_BHPN: Tensor, survives_BH: Tensor, context: Context) -> Tensor:
        states_rBHPN, survives_rBH = context.gather(state_BHPN), context.gather(survives_BH)
        enter_BHPN = torch.zeros_like(state_BHPN)
        for state, survives in zip(states_rBHPN[: context.rank], survives_rBH, strict=False):
            enter_BHPN = torch.addcmul(state, enter_BHPN, survives[..., None, None])
        ctx.save_for_backward(survives_rBH, enter_BHPN)
        ctx.context = context
        return enter_BHPN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHPN: Tensor) -> tuple[Tensor, Tensor, None]:
        survives_rBH, enter_BHPN = ctx.saved_tensors
        grads_rBHPN = ctx.context.gather(grad_BHPN)
        dleave_BHPN = torch.zeros_like(grad_BHPN)
        for later in reversed(range(ctx.context.rank + 1, ctx.context.size)):
            dleave_BHPN = torch.addcmul(grads_rBHPN[later], dleave_BHPN, survives_rBH[later][..., None, None])
        return dleave_BHPN, (dleave_BHPN * enter_BHPN).sum((2, 3)), None
