"""The Mamba-2 mixer (arXiv 2405.21060; report, section 2.1).

in_proj makes z (gate), x, B, C and dt in this order; x, B and C pass a short causal convolution with SiLU; the scan runs
in float32; the output is gated by z, normalized within each group, and projected back.

Shapes: B batch, T tokens, D hidden size, H heads, P head_dim, G groups, N state size, K conv width.
"""

import torch
from torch import Tensor, nn

from model.config import HybridConfig
from model.inference.state import MambaState, Places
from model.kernels import choice, cpu_decoding
from model.kernels.convolution import causal_conv_step, split_causal_conv
from model.kernels.documents import Documents
from model.kernels.matmul import split_linear
from model.kernels.scan import chunked_scan, scan_step
from model.layers.linear import Linear
from model.layers.norm import GatedRMSNorm, RMSNorm
from model.parallel.context import RowPiece
from model.parallel.scan import scan_piece

_Between = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor, int]


class Mamba2(nn.Module):
    """[B, T, D] -> [B, T, D]."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.mamba_num_heads, config.mamba_head_dim
        self.groups, self.chunk_size = config.n_groups, config.chunk_size
        group_states = config.n_groups * config.ssm_state_size
        self.in_proj_split = (config.mamba_width, config.conv_width, config.mamba_num_heads)
        self.conv_split = (config.mamba_width, group_states, group_states)
        self.in_proj = Linear(config.hidden_size, config.in_proj_width, bias=config.use_bias)
        self.conv1d = nn.Conv1d(
            config.conv_width,
            config.conv_width,
            config.conv_kernel,
            groups=config.conv_width,
            bias=config.use_conv_bias,
        )
        self.A_log = nn.Parameter(torch.empty(config.mamba_num_heads))
        self.D = nn.Parameter(torch.empty(config.mamba_num_heads))
        self.dt_bias = nn.Parameter(torch.empty(config.mamba_num_heads))
        self.norm = GatedRMSNorm(config.mamba_width, config.layer_norm_epsilon, config.n_groups)
        self.out_proj = Linear(config.mamba_width, config.hidden_size, bias=config.use_bias)

    def forward(
        self,
        x_BTD: Tensor,
        documents: Documents | None = None,
        state: MambaState | None = None,
        places: Places | None = None,
        piece: RowPiece | None = None,
    ) -> Tensor:
        """With a state, the tokens follow those it has seen; it is updated in place, by those that count. As a piece, they
        follow those of the pieces before."""
        batch, length, _ = x_BTD.shape
        if state is not None and length == 1 and cpu_decoding.serves(x_BTD, state.ssm_BHPN.numel()):
            mixed_B1W = cpu_decoding.mamba_step(
                self.in_proj(x_BTD), *self._between_projections(state), eps=self.norm.eps
            )
            return self.out_proj(mixed_B1W)
        if (
            state is None
            and piece is None
            and choice.fused_mamba(x_BTD, sum(self.conv_split), self.conv1d.kernel_size[0], self.chunk_size)
        ):
            return self.out_proj(self._fused(self.in_proj(x_BTD), documents))
        gate, xBC_BTC, dt_BTH = self._project_in(x_BTD)
        weight_CK = self.conv1d.weight[:, 0].to(xBC_BTC.dtype)
        bias_C = None if self.conv1d.bias is None else self.conv1d.bias.to(xBC_BTC.dtype)
        if piece is not None:
            return self.out_proj(self.norm(self._piece(xBC_BTC, weight_CK, bias_C, dt_BTH, piece), gate))
        if state is None:
            x, B, C = split_causal_conv(xBC_BTC, weight_CK, bias_C, documents, self.conv_split)
        else:
            counts_B = None if places is None else places.counts_B
            xBC_BTC = causal_conv_step(xBC_BTC, weight_CK, bias_C, state.conv_BJC, counts_B)
            if places is not None and places.beyond_BT is not None:
                # A time step of zero, softplus(-inf), neither adds to the state nor lets it decay.
                dt_BTH = dt_BTH.masked_fill(places.beyond_BT[..., None], -torch.inf)
            x, B, C = xBC_BTC.split(self.conv_split, dim=-1)
        if state is not None and length == 1:
            y_BHP = scan_step(
                x.view(batch, self.heads, self.head_dim),
                dt_BTH[:, 0],
                self.A_log,
                B.view(batch, self.groups, -1),
                C.view(batch, self.groups, -1),
                self.D,
                self.dt_bias,
                state.ssm_BHPN,
            )
            return self.out_proj(self.norm(y_BHP.view(batch, 1, -1), gate))
        x_BTHP = x.unflatten(-1, (self.heads, self.head_dim))
        B_BTGN, C_BTGN = B.unflatten(-1, (self.groups, -1)), C.unflatten(-1, (self.groups, -1))
        initial = None if state is None else state.ssm_BHPN
        y_BTHP, final_BHPN = chunked_scan(
            x_BTHP,
            dt_BTH,
            self.A_log,
            B_BTGN,
            C_BTGN,
            self.D,
            self.dt_bias,
            self.chunk_size,
            documents,
            initial,
        )
        if state is not None:
            state.ssm_BHPN.copy_(final_BHPN)
        return self.out_proj(self.norm(y_BTHP.flatten(2), gate))

    def _fused(self, zxBCdt_BTW: Tensor, documents: Documents | None) -> Tensor:
        """What lies between the projections [B, T, H P], in kernels of a GPU."""
        from model.kernels.cuda.mamba import conv_scan_norm

        return conv_scan_norm(
            zxBCdt_BTW,
            self.conv1d.weight[:, 0],
            self.conv1d.bias,
            self.dt_bias,
            self.A_log,
            self.D,
            self.norm.weight,
            eps=self.norm.eps,
            groups=self.groups,
            chunk_size=self.chunk_size,
            documents=documents,
        )

    def _piece(
        self, xBC_BTC: Tensor, weight_CK: Tensor, bias_C: Tensor | None, dt_BTH: Tensor, piece: RowPiece
    ) -> Tensor:
        """Convolution and scan [B, T, H P] of a rank's tokens."""
        tail = weight_CK.shape[1] - 1
        xBC_BSC, documents = piece.with_tail(xBC_BTC, tail)
        x, B, C = (
            part[:, tail:]
            for part in split_causal_conv(xBC_BSC, weight_CK, bias_C, documents, self.conv_split)
        )
        return scan_piece(
            x.unflatten(-1, (self.heads, self.head_dim)),
            dt_BTH,
            self.A_log,
            B.unflatten(-1, (self.groups, -1)),
            C.unflatten(-1, (self.groups, -1)),
            self.D,
            self.dt_bias,
            self.chunk_size,
            piece,
        ).flatten(2)

    def keep_share(self, ranks: int) -> None:
        """Count the heads of one of so many tensor ranks."""
        self.heads //= ranks
        self.groups //= ranks
        self.norm.groups //= ranks
        inner, states, heads = self.in_proj_split[0] // ranks, self.conv_split[1] // ranks, self.heads
        self.in_proj_split = (inner, inner + 2 * states, heads)
        self.conv_split = (inner, states, states)

    def block_step(self, x_B1D: Tensor, norm: RMSNorm, state: MambaState) -> Tensor | None:
        """The block around this mixer, x + mixer(norm(x)), in one compiled call; None where there is none for the case."""
        largest = max(self.in_proj.weight.numel(), self.out_proj.weight.numel())
        if not cpu_decoding.serves_rows(x_B1D, self.in_proj.weight, largest):
            return None
        return cpu_decoding.mamba_block(
            x_B1D,
            norm.weight,
            norm.eps,
            self.in_proj.weight,
            self.in_proj.bias,
            *self._between_projections(state),
            out_proj_DW=self.out_proj.weight,
            out_bias_D=self.out_proj.bias,
        )

    def _between_projections(self, state: MambaState) -> _Between:
        """What a compiled step works with between in_proj and out_proj, in the order of `cpu_decoding`'s arguments."""
        return (
            state.conv_BJC,
            self.conv1d.weight,
            self.conv1d.bias,
            state.ssm_BHPN,
            self.A_log,
            self.D,
            self.dt_bias,
            self.norm.weight,
            self.groups,
        )

    def _project_in(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        """Gate, convolution inputs and raw dt."""
        if torch.is_grad_enabled() and self.in_proj.bias is None and self.in_proj.product is None:
            return split_linear(x_BTD, self.in_proj.weight, self.in_proj_split)
        return self.in_proj(x_BTD).split(self.in_proj_split, dim=-1)
