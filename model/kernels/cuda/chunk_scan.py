"""mamba-ssm's chunk scan, forward and backward, from its Triton kernels.

Its own function computes the states between chunks again in the backward pass; here they are kept, in the dtype of the
scan's inputs. The order of the kernels and what they are given are those of `mamba_ssm.ops.triton.ssd_combined`.

Shapes: B batch, T tokens, H heads, P head_dim, G groups, N state size, c chunks of Q tokens.
"""

import torch
from mamba_ssm.ops.triton.ssd_bmm import _bmm_chunk_bwd, _bmm_chunk_fwd
from mamba_ssm.ops.triton.ssd_chunk_scan import (
    _chunk_scan_bwd_dC,
    _chunk_scan_bwd_dcb,
    _chunk_scan_bwd_ddAcs_stable,
    _chunk_scan_bwd_dstates,
    _chunk_scan_fwd,
)
from mamba_ssm.ops.triton.ssd_chunk_state import (
    _chunk_cumsum_bwd,
    _chunk_cumsum_fwd,
    _chunk_state_bwd_db,
    _chunk_state_fwd,
)
from mamba_ssm.ops.triton.ssd_combined import _chunk_scan_chunk_state_bwd_dx
from mamba_ssm.ops.triton.ssd_state_passing import _state_passing_bwd, _state_passing_fwd
from torch import Tensor

Kept = tuple[Tensor, Tensor, Tensor]
"""dt after softplus and the running sums of dt A within chunks [B, H, c, Q], float32; the states that enter the chunks
[B, c, H, P, N]."""


def scan_forward(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    chunk_size: int,
    seq_idx_BT: Tensor | None,
) -> tuple[Tensor, Kept]:
    """y [B, T, H, P], and what the backward pass needs besides the arguments. `dt_BTH` is raw, before its bias."""
    sums_BHcQ, dt_BHcQ = _chunk_cumsum_fwd(dt_BTH, A_H, chunk_size, dt_bias=dt_bias_H, dt_softplus=True)
    own_BcHPN = _chunk_state_fwd(B_BTGN, x_BTHP, dt_BHcQ, sums_BHcQ, seq_idx=seq_idx_BT, states_in_fp32=True)
    entering_BcHM, _ = _state_passing_fwd(
        own_BcHPN.flatten(-2),
        sums_BHcQ[..., -1],
        seq_idx=seq_idx_BT,
        chunk_size=chunk_size,
        out_dtype=C_BTGN.dtype,
    )
    entering_BcHPN = entering_BcHM.view(own_BcHPN.shape)
    CB = _bmm_chunk_fwd(C_BTGN, B_BTGN, chunk_size, seq_idx=seq_idx_BT, output_dtype=torch.float32)
    y_BTHP, _ = _chunk_scan_fwd(
        CB, x_BTHP, dt_BHcQ, sums_BHcQ, C_BTGN, entering_BcHPN, D=D_H, seq_idx=seq_idx_BT
    )
    return y_BTHP, (dt_BHcQ, sums_BHcQ, entering_BcHPN)


def scan_backward(
    dy_BTHP: Tensor,
    x_BTHP: Tensor,
    raw_dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    seq_idx_BT: Tensor | None,
    kept: Kept,
    *,
    dx_BTHP: Tensor,
    ddt_BTH: Tensor,
    dB_BTGN: Tensor,
    dC_BTGN: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of A, D and the bias of dt, [H]; the others are written into the tensors given for them."""
    dt_BHcQ, sums_BHcQ, entering_BcHPN = kept
    groups, chunk_size = B_BTGN.shape[2], sums_BHcQ.shape[-1]
    CB = _bmm_chunk_fwd(C_BTGN, B_BTGN, chunk_size, seq_idx=seq_idx_BT, output_dtype=torch.float32)
    dentering_BcHPN = _chunk_scan_bwd_dstates(
        C_BTGN, sums_BHcQ, dy_BTHP, seq_idx=seq_idx_BT, dtype=torch.float32
    )
    down_BcHM, dsums_of_chunks_BHc, _, _ = _state_passing_bwd(
        entering_BcHPN.flatten(-2),
        sums_BHcQ[..., -1],
        dentering_BcHPN.flatten(-2),
        seq_idx=seq_idx_BT,
        has_initial_states=False,
        dstates_dtype=x_BTHP.dtype,
        states_dtype=entering_BcHPN.dtype,
        chunk_size=chunk_size,
    )
    down_BcHPN = down_BcHM.view(entering_BcHPN.shape)
    _, ddt_BHcQ, dD_H = _chunk_scan_chunk_state_bwd_dx(
        x_BTHP,
        dt_BHcQ,
        sums_BHcQ,
        B_BTGN,
        CB,
        dy_BTHP,
        down_BcHPN,
        D=D_H,
        seq_idx=seq_idx_BT,
        dx=dx_BTHP,
    )
    dB, dsums_by_own_BHcQ = _chunk_state_bwd_db(
        x_BTHP, dt_BHcQ, sums_BHcQ, down_BcHPN, seq_idx=seq_idx_BT, B=B_BTGN, ngroups=groups
    )
    dC, dsums_by_entering_BHcQ = _chunk_scan_bwd_dC(
        entering_BcHPN, sums_BHcQ, dy_BTHP, seq_idx=seq_idx_BT, C=C_BTGN, ngroups=groups
    )
    dCB = _chunk_scan_bwd_dcb(x_BTHP, dt_BHcQ, sums_BHcQ, dy_BTHP, seq_idx=seq_idx_BT, ngroups=groups)
    _bmm_chunk_bwd(C_BTGN, dCB, residual=dB, out=dB_BTGN)
    _bmm_chunk_bwd(B_BTGN, dCB.transpose(-1, -2), residual=dC, out=dC_BTGN)
    dsums_by_entering_BHcQ[..., -1] += dsums_of_chunks_BHc
    dA_BHcQ = _chunk_scan_bwd_ddAcs_stable(x_BTHP, dt_BHcQ, sums_BHcQ, dy_BTHP, CB)
    dA_BHcQ += dsums_by_own_BHcQ + dsums_by_entering_BHcQ.flip([-1]).cumsum(-1).flip([-1])
    _, dA_H, ddt_bias_H = _chunk_cumsum_bwd(
        dA_BHcQ, ddt_BHcQ, raw_dt_BTH, A_H, dt_bias=dt_bias_H, dt_softplus=True, ddt=ddt_BTH
    )
    return dA_H, dD_H, ddt_bias_H
