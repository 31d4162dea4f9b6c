"""The Mamba-2 recurrence and convolution, one token at a time: the oracle that every faster path is tested against.

Mamba-2 (arXiv 2405.21060, section 2):   h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T      y_t = C_t h_t + D x_t
with dt = softplus(dt_raw + dt_bias), A = -exp(A_log), one scalar A and D a head, B and C shared by the heads of a group.

Shapes: B batch, T tokens, H heads, P head_dim, G groups, N state size, C channels, K conv width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.documents import Documents


def reference_scan(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_log_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    documents: Documents | None = None,
    initial_state_BHPN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(y [B, T, H, P], final state [B, H, P, N]) in the dtype of the arguments. `dt_BTH` is raw, before its bias."""
    batch, length, heads, head_dim = x_BTHP.shape
    repeats = heads // B_BTGN.shape[2]
    B_BTHN, C_BTHN = (M.repeat_interleave(repeats, dim=2) for M in (B_BTGN, C_BTGN))
    dt_BTH = F.softplus(dt_BTH + dt_bias_H)
    decay_BTH = torch.exp(-torch.exp(A_log_H) * dt_BTH)
    h_BHPN = x_BTHP.new_zeros(batch, heads, head_dim, B_BTGN.shape[3])
    if initial_state_BHPN is not None:
        h_BHPN = initial_state_BHPN
    outputs = []
    for t in range(length):
        if documents is not None and t > 0:
            continues_B = documents.runs_BT[:, t] == documents.runs_BT[:, t - 1]
            h_BHPN = torch.where(continues_B[:, None, None, None], h_BHPN, torch.zeros_like(h_BHPN))
        inflow_BHPN = (dt_BTH[:, t, :, None] * x_BTHP[:, t])[..., None] * B_BTHN[:, t, :, None]
        h_BHPN = decay_BTH[:, t, :, None, None] * h_BHPN + inflow_BHPN
        outputs.append((h_BHPN * C_BTHN[:, t, :, None]).sum(-1) + D_H[:, None] * x_BTHP[:, t])
    return torch.stack(outputs, dim=1), h_BHPN


def reference_conv(
    x_BTC: Tensor, weight_CK: Tensor, bias_C: Tensor | None, documents: Documents | None = None
) -> Tensor:
    """silu(causal depthwise convolution) of x [B, T, C]; a tap that reaches into an earlier document reads zero."""
    length, width = x_BTC.shape[1], weight_CK.shape[1]
    rows = []
    for t in range(length):
        total_BC = torch.zeros_like(x_BTC[:, 0]) if bias_C is None else bias_C.expand_as(x_BTC[:, 0])
        for back in range(min(width, t + 1)):
            tap_BC = x_BTC[:, t - back] * weight_CK[:, width - 1 - back]
            if documents is not None:
                same_B = documents.runs_BT[:, t] == documents.runs_BT[:, t - back]
                tap_BC = torch.where(same_B[:, None], tap_BC, torch.zeros_like(tap_BC))
            total_BC = total_BC + tap_BC
        rows.append(total_BC)
    return F.silu(torch.stack(rows, dim=1))
