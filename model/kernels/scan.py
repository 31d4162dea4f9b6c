"""The chunked Mamba-2 scan in plain PyTorch, with a backward pass that keeps only its inputs and the chunk states.

Within a chunk of Q tokens the recurrence is one masked matrix product; between chunks only the state [N, P] of each
head is passed on (state space duality, arXiv 2405.21060, section 6). With a_t the running sum of dt A in the chunk:

    y_t   = sum_{s <= t} exp(a_t - a_s) (C_t . B_s) dt_s x_s  +  exp(a_t) C_t S_in
    S_out = exp(a_Q) S_in + sum_s exp(a_Q - a_s) B_s (dt_s x_s)^T

One batch row is worked on at a time, all its chunks at once: that keeps the [Q, Q] matrices of a row in the processor's
cache and the memory for them independent of the batch. The backward pass computes them again instead of keeping them.

Documents: a_t restarts at a document's first token, pairs (t, s) of different documents are masked out of C B^T, and a
state flows on only within a document. A masked pair contributes an exact zero, so the numbers of one document never
depend on another's, to the last bit.

Shapes: B batch, T tokens, H heads, P head_dim, G groups, R = H / G heads a group, N state size, c chunks of Q tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels import choice
from model.kernels.documents import Documents


def chunked_scan(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_log_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    chunk_size: int,
    documents: Documents | None = None,
    initial_state_BHPN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(y [B, T, H, P] in the dtype of x, final state [B, H, P, N]), as `reference_scan` computes them.

    The scan runs in float32, or in float64 where x is. `dt_BTH` is raw, before its bias. The final state may be trained
    through, the initial state may not.
    """
    if choice.fused_scan(x_BTHP, chunk_size):
        from model.kernels.cuda.mamba import scan

        return scan(
            x_BTHP,
            dt_BTH,
            A_log_H,
            B_BTGN,
            C_BTGN,
            D_H,
            dt_bias_H,
            chunk_size,
            documents,
            initial_state_BHPN,
        )
    wide = torch.promote_types(x_BTHP.dtype, torch.float32)
    dt_BTH = F.softplus(dt_BTH.to(wide) + dt_bias_H.to(wide))
    A_H = -torch.exp(A_log_H.to(wide))
    runs_BT = None if documents is None else documents.runs_BT
    # Of 70 tokens, two chunks of 35 rather than 64 and a rest filled up to 64.
    chunk_size = -(-x_BTHP.shape[1] // -(-x_BTHP.shape[1] // chunk_size))
    return _ChunkedScan.apply(
        x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, D_H.to(wide), chunk_size, runs_BT, initial_state_BHPN
    )


def scan_step(
    x_BHP: Tensor,
    dt_BH: Tensor,
    A_log_H: Tensor,
    B_BGN: Tensor,
    C_BGN: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    state_BHPN: Tensor,
) -> Tensor:
    """One token of the recurrence. Updates `state_BHPN` in place and returns y [B, H, P] in the dtype of the state."""
    wide = state_BHPN.dtype
    batch, heads, head_dim, state_size = state_BHPN.shape
    groups = B_BGN.shape[1]
    x_BHP = x_BHP.to(wide)
    dt_BH = F.softplus(dt_BH.to(wide) + dt_bias_H.to(wide))
    decay_BH = torch.exp_(torch.exp(A_log_H.to(wide)).neg_() * dt_BH)
    state_BHPN.mul_(decay_BH.view(batch, heads, 1, 1))
    state_BGMN = state_BHPN.view(batch, groups, -1, state_size)
    dtx_BGM1 = (x_BHP * dt_BH.unsqueeze(-1)).view(batch, groups, -1, 1)
    state_BGMN.addcmul_(dtx_BGM1, B_BGN.to(wide).unsqueeze(2))
    # Not matmul: MKL's batched product with a vector is two to three times slower.
    y_BGM = torch.linalg.vecdot(state_BGMN, C_BGN.to(wide).unsqueeze(2))
    return y_BGM.view(batch, heads, head_dim).addcmul_(x_BHP, D_H.to(wide).unsqueeze(-1))


class _ChunkedScan(torch.autograd.Function):
    """Inputs as `chunked_scan`, with dt after softplus and A negative."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BTHP: Tensor,
        dt_BTH: Tensor,
        A_H: Tensor,
        B_BTGN: Tensor,
        C_BTGN: Tensor,
        D_H: Tensor,
        chunk_size: int,
        runs_BT: Tensor | None,
        initial_state_BHPN: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        batch, _, heads, head_dim = x_BTHP.shape
        state_size = B_BTGN.shape[3]
        y_BTHP = torch.empty_like(x_BTHP, memory_format=torch.contiguous_format)
        final_BHPN = torch.empty(batch, heads, head_dim, state_size, dtype=dt_BTH.dtype, device=x_BTHP.device)
        states = []
        scratch = _Scratch(dt_BTH)
        for b in range(batch):
            row = _Row.of(
                x_BTHP[b],
                dt_BTH[b],
                A_H,
                B_BTGN[b],
                C_BTGN[b],
                chunk_size,
                None if runs_BT is None else runs_BT[b],
                scratch,
            )
            initial = None if initial_state_BHPN is None else initial_state_BHPN[b]
            state_sGNM = row.pass_states(initial)
            row.output(state_sGNM[:-1], D_H, y_BTHP[b])
            final_BHPN[b] = row.state_as_HPN(state_sGNM[-1])
            states.append(state_sGNM)
        ctx.save_for_backward(x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, D_H, runs_BT, *states)
        ctx.chunk_size = chunk_size
        ctx.set_materialize_grads(False)
        return y_BTHP, final_BHPN

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_y_BTHP: Tensor | None, grad_final_BHPN: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, D_H, runs_BT, *states = ctx.saved_tensors
        if grad_y_BTHP is None:
            grad_y_BTHP = torch.zeros_like(x_BTHP)
        grad_x, grad_B, grad_C = (
            torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x_BTHP, B_BTGN, C_BTGN)
        )
        grad_dt = torch.empty_like(dt_BTH)
        grad_A, grad_D = torch.zeros_like(A_H), torch.zeros_like(D_H)
        scratch = _Scratch(dt_BTH)
        for b, state_sGNM in enumerate(states):
            row = _Row.of(
                x_BTHP[b],
                dt_BTH[b],
                A_H,
                B_BTGN[b],
                C_BTGN[b],
                ctx.chunk_size,
                None if runs_BT is None else runs_BT[b],
                scratch,
            )
            grad_final = None if grad_final_BHPN is None else grad_final_BHPN[b]
            grads = row.backward(grad_y_BTHP[b], state_sGNM[:-1], A_H, D_H, grad_final)
            grad_x[b], grad_dt[b], grad_B[b], grad_C[b] = grads.x_THP, grads.dt_TH, grads.B_TGN, grads.C_TGN
            grad_A += grads.A_H
            grad_D += grads.D_H
        return grad_x, grad_dt, grad_A, grad_B, grad_C, grad_D, None, None, None


@dataclass
class _RowGradients:
    x_THP: Tensor
    dt_TH: Tensor
    A_H: Tensor
    B_TGN: Tensor
    C_TGN: Tensor
    D_H: Tensor


class _Scratch:
    """Working memory that the rows of a batch use one after the other: fresh memory costs a page fault every 4 KiB, more
    than most elementwise work on it."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The buffer of that name, uninitialized at its first use."""
        if name not in self.buffers:
            self.buffers[name] = torch.empty(shape, dtype=self.like.dtype, device=self.like.device)
        return self.buffers[name]


@dataclass
class _Row:
    """One sequence cut into chunks, and the quantities that both passes need. M is R * P, a group's channels."""

    length: int
    scratch: _Scratch
    x_cQHP: Tensor
    dt_cHQ: Tensor
    B_cGQN: Tensor
    C_cGQN: Tensor
    a_cHQ: Tensor  # running sum of dt A since the chunk's (or document's) start, inclusive
    visible: Tensor  # [Q, Q] or [c, 1, Q, Q] bool: s <= t, and of the same document
    from_entry_cHQ: Tensor  # exp(a_t), zero where t's document began in this chunk
    to_exit_cHQ: Tensor  # exp(a_Q - a_s), zero where s's document ended in this chunk
    dtx_cHQP: Tensor

    @classmethod
    def of(
        cls,
        x_THP: Tensor,
        dt_TH: Tensor,
        A_H: Tensor,
        B_TGN: Tensor,
        C_TGN: Tensor,
        chunk_size: int,
        runs_T: Tensor | None,
        scratch: _Scratch,
    ) -> "_Row":
        length, wide = x_THP.shape[0], dt_TH.dtype
        x_cQHP = _chunk(x_THP, chunk_size)
        chunks, chunk, heads, head_dim = x_cQHP.shape
        groups, state_size = B_TGN.shape[1:]
        if x_cQHP.dtype != wide:
            x_cQHP = scratch("x", *x_cQHP.shape).copy_(x_cQHP)
        dt_cHQ = _chunk(dt_TH, chunk_size).transpose(1, 2).contiguous()
        B_cGQN = scratch("B", chunks, groups, chunk, state_size).copy_(
            _chunk(B_TGN, chunk_size).transpose(1, 2)
        )
        C_cGQN = scratch("C", chunks, groups, chunk, state_size).copy_(
            _chunk(C_TGN, chunk_size).transpose(1, 2)
        )
        visible = torch.ones(chunk, chunk, dtype=torch.bool, device=x_THP.device).tril_()
        if runs_T is None:
            a_cHQ = (dt_cHQ * A_H[:, None]).cumsum_(-1)
            from_entry_cHQ = torch.exp(a_cHQ)
            to_exit_cHQ = torch.exp(a_cHQ[..., -1:] - a_cHQ)
        else:
            runs_cQ = _chunk_runs(runs_T, chunk_size)
            before_c1 = F.pad(runs_cQ[:-1, -1:], (0, 0, 1, 0))
            before_c1[0] = runs_cQ[0, 0]
            visible = (visible & (runs_cQ[:, :, None] == runs_cQ[:, None, :]))[:, None]
            a_cHQ = torch.matmul(dt_cHQ * A_H[:, None], visible[:, 0].transpose(1, 2).to(wide))
            from_entry_cHQ = torch.exp(a_cHQ) * (runs_cQ == before_c1)[:, None]
            to_exit_cHQ = (a_cHQ[..., -1:] - a_cHQ).clamp_(max=0).exp_() * (runs_cQ == runs_cQ[:, -1:])[
                :, None
            ]
        dtx_cHQP = torch.mul(
            x_cQHP.transpose(1, 2), dt_cHQ[..., None], out=scratch("dtx", chunks, heads, chunk, head_dim)
        )
        return cls(
            length,
            scratch,
            x_cQHP,
            dt_cHQ,
            B_cGQN,
            C_cGQN,
            a_cHQ,
            visible,
            from_entry_cHQ,
            to_exit_cHQ,
            dtx_cHQP,
        )

    def decay(self) -> Tensor:
        """exp(a_t - a_s) [c, H, Q, Q] for s <= t; 1 or less, and meaningless, elsewhere."""
        out = self.scratch("decay", *self.a_cHQ.shape, self.a_cHQ.shape[-1])
        return torch.sub(self.a_cHQ[..., :, None], self.a_cHQ[..., None, :], out=out).clamp_(max=0).exp_()

    def scores(self) -> Tensor:
        """C_t . B_s [c, G, Q, Q], zero where s is not visible from t."""
        return self.product("scores", self.C_cGQN, self.B_cGQN.transpose(2, 3)).mul_(self.visible)

    def product(self, name: str, left: Tensor, right: Tensor) -> Tensor:
        """The batched matrix product of two [c, H or G, ., .], in the scratch buffer of that name."""
        out = self.scratch(name, *left.shape[:3], right.shape[3])
        torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out=out.view(-1, *out.shape[2:]))
        return out

    def by_group(self, per_head: Tensor) -> Tensor:
        """[c, H, ...] seen as [c, G, R, ...]."""
        chunks, groups = self.B_cGQN.shape[:2]
        return per_head.view(chunks, groups, -1, *per_head.shape[2:])

    def channels_last(self, name: str, per_head_cHQP: Tensor, weight_cHQ: Tensor) -> Tensor:
        """weight * value, [c, H, Q, P] laid out as [c, G, Q, M] so that a group's heads share one matrix product."""
        chunks, groups, chunk, _ = self.B_cGQN.shape
        value_cGQRP = self.by_group(per_head_cHQP).transpose(2, 3)
        weight_cGQR1 = self.by_group(weight_cHQ).transpose(2, 3)[..., None]
        out = self.scratch(name, *value_cGQRP.shape)
        return torch.mul(value_cGQRP, weight_cGQR1, out=out).view(chunks, groups, chunk, -1)

    def chunk_decay(self) -> Tensor:
        """exp(a_Q) of each chunk, [c, G, 1, R, 1]: how much of the entry state survives; zero past a document's end."""
        return self.by_group(self.from_entry_cHQ[..., -1])[:, :, None, :, None]

    def pass_states(self, initial_HPN: Tensor | None) -> Tensor:
        """The state before each chunk and after the last, [c + 1, G, N, M]."""
        weighted_dtx_cGQM = self.channels_last("weighted", self.dtx_cHQP, self.to_exit_cHQ)
        chunks, groups, _, channels = weighted_dtx_cGQM.shape
        state_size = self.B_cGQN.shape[3]
        state_sGNM = weighted_dtx_cGQM.new_empty(chunks + 1, groups, state_size, channels)
        if initial_HPN is None:
            state_sGNM[0] = 0
        else:
            state_sGNM[0] = self.state_as_GNM(initial_HPN)
        # Each chunk's inflow first, then what survives of the state before it.
        torch.bmm(
            self.B_cGQN.transpose(2, 3).flatten(0, 1),
            weighted_dtx_cGQM.flatten(0, 1),
            out=state_sGNM[1:].view(-1, state_size, channels),
        )
        states = state_sGNM.unflatten(3, (-1, self.dtx_cHQP.shape[3])).unbind()
        for before, after, decay_G1R1 in zip(states, states[1:], self.chunk_decay().unbind(), strict=False):
            after.addcmul_(before, decay_G1R1)
        return state_sGNM

    def state_as_HPN(self, state_GNM: Tensor) -> Tensor:
        heads, head_dim = self.x_cQHP.shape[2:]
        return state_GNM.transpose(1, 2).reshape(heads, head_dim, -1)

    def state_as_GNM(self, state_HPN: Tensor) -> Tensor:
        return state_HPN.reshape(self.B_cGQN.shape[1], -1, state_HPN.shape[2]).transpose(1, 2)

    def output(self, entry_cGNM: Tensor, D_H: Tensor, y_THP: Tensor) -> None:
        """Write y = within-chunk part + entry state's part + D x into `y_THP`."""
        mixing_cHQQ = self.decay()
        self.by_group(mixing_cHQQ).mul_(self.scores()[:, :, None])
        y_cHQP = self.product("y", mixing_cHQQ, self.dtx_cHQP)
        carried_cGQM = self.product("carried", self.C_cGQN, entry_cGNM)
        y_cGRQP, carried_cGRQP = self.by_group(y_cHQP), self._heads_of(carried_cGQM)
        y_cGRQP.addcmul_(carried_cGRQP, self.by_group(self.from_entry_cHQ)[..., None])
        y_cQHP = y_cHQP.transpose(1, 2)
        if self.length == y_cQHP.shape[0] * y_cQHP.shape[1] and y_THP.dtype == y_cQHP.dtype:
            torch.addcmul(y_cQHP, self.x_cQHP, D_H[:, None], out=y_THP.view(y_cQHP.shape))
        else:
            y_THP.copy_(y_cQHP.addcmul_(self.x_cQHP, D_H[:, None]).flatten(0, 1)[: self.length])

    def _heads_of(self, grouped_cGQM: Tensor) -> Tensor:
        """[c, G, Q, M] seen as [c, G, R, Q, P]."""
        head_dim = self.x_cQHP.shape[3]
        return grouped_cGQM.unflatten(3, (-1, head_dim)).transpose(2, 3)

    def backward(
        self,
        grad_y_THP: Tensor,
        entry_cGNM: Tensor,
        A_H: Tensor,
        D_H: Tensor,
        grad_final_HPN: Tensor | None,
    ) -> _RowGradients:
        chunk = self.x_cQHP.shape[1]
        groups, state_size, channels = entry_cGNM.shape[1:]
        dy_cQHP = _chunk(grad_y_THP, chunk)
        dy_cHQP = self.scratch("dy", *self.dtx_cHQP.shape).copy_(dy_cQHP.transpose(1, 2))
        dy_cQHP = dy_cHQP.transpose(1, 2)

        # Within the chunk: y = mixing @ dtx with mixing = decay * scores.
        decay_cHQQ, scores_cGQQ = self.decay(), self.scores()
        dmixing_cHQQ = self.product("dmixing", dy_cHQP, self.dtx_cHQP.transpose(2, 3))
        dmixing_cHQQ.mul_(decay_cHQQ)
        dscores_cGQQ = self.by_group(dmixing_cHQQ).sum(2).mul_(self.visible)
        self.by_group(dmixing_cHQQ).mul_(scores_cGQQ[:, :, None])  # now the gradient of a_t - a_s
        # a_t - a_t is 0 whatever a is: its gradient would cancel, and its rounding swamp what decays strongly.
        dmixing_cHQQ.diagonal(dim1=-2, dim2=-1).zero_()
        da_cHQ = dmixing_cHQQ.sum(3) - dmixing_cHQQ.sum(2)
        mixing_cHQQ = decay_cHQQ
        self.by_group(mixing_cHQQ).mul_(scores_cGQQ[:, :, None])
        ddtx_cHQP = self.product("ddtx", mixing_cHQQ.transpose(2, 3), dy_cHQP)
        dC_cGQN = self.product("dC", dscores_cGQQ, self.B_cGQN)
        dB_cGQN = self.product("dB", dscores_cGQQ.transpose(2, 3), self.C_cGQN)

        # The entry state's part: y += from_entry * (C @ entry).
        weighted_dy_cGQM = self.channels_last("weighted", dy_cHQP, self.from_entry_cHQ)
        self._add_product(dC_cGQN, weighted_dy_cGQM, entry_cGNM.transpose(2, 3))
        carried_cGRQP = self._heads_of(self.product("carried", self.C_cGQN, entry_cGNM))
        along_cGRQP = self.scratch("along", *carried_cGRQP.shape)
        dfrom_entry_cHQ = (
            torch.mul(self.by_group(dy_cHQP), carried_cGRQP, out=along_cGRQP).sum(-1).flatten(1, 2)
        )
        da_cHQ.addcmul_(dfrom_entry_cHQ, self.from_entry_cHQ)

        # Between chunks, last to first: exit = chunk_decay * entry + B^T @ (to_exit * dtx).
        dstate_sGNM = self.scratch("dstate", entry_cGNM.shape[0] + 1, groups, state_size, channels)
        dstate_sGNM[-1] = 0 if grad_final_HPN is None else self.state_as_GNM(grad_final_HPN)
        torch.bmm(
            self.C_cGQN.transpose(2, 3).flatten(0, 1),
            weighted_dy_cGQM.flatten(0, 1),
            out=dstate_sGNM[:-1].view(-1, state_size, channels),
        )
        dstates = dstate_sGNM.unflatten(3, (-1, self.dtx_cHQP.shape[3])).unbind()
        decays = self.chunk_decay().unbind()
        for k in reversed(range(len(decays))):
            dstates[k].addcmul_(dstates[k + 1], decays[k])
        dexit_cGNM = dstate_sGNM[1:]
        survived_cHNP = self._chunk_dot(dexit_cGNM, entry_cGNM)
        da_cHQ[..., -1] += survived_cHNP * self.from_entry_cHQ[..., -1]
        weighted_dtx_cGQM = self.channels_last("weighted", self.dtx_cHQP, self.to_exit_cHQ)
        self._add_product(dB_cGQN, weighted_dtx_cGQM, dexit_cGNM.transpose(2, 3))
        dinflow_cGRQP = self._heads_of(self.product("carried", self.B_cGQN, dexit_cGNM))
        self.by_group(ddtx_cHQP).addcmul_(dinflow_cGRQP, self.by_group(self.to_exit_cHQ)[..., None])
        dto_exit_cHQ = (
            torch.mul(self.by_group(self.dtx_cHQP), dinflow_cGRQP, out=along_cGRQP)
            .sum(-1)
            .flatten(1, 2)
            .mul_(self.to_exit_cHQ)
        )
        da_cHQ -= dto_exit_cHQ
        da_cHQ[..., -1] += dto_exit_cHQ.sum(-1)

        # a is a running sum of dt A; dtx is dt x; D passes x straight through.
        ddtA_cHQ = self._reverse_running_sum(da_cHQ)
        x_cHQP = self.x_cQHP.transpose(1, 2)
        along_cHQP = along_cGRQP.view(self.dtx_cHQP.shape)
        ddt_cHQ = torch.mul(ddtx_cHQP, x_cHQP, out=along_cHQP).sum(-1).addcmul_(ddtA_cHQ, A_H[:, None])
        dD_H = torch.mul(dy_cHQP, x_cHQP, out=along_cHQP).sum((0, 2, 3))
        dx_cHQP = ddtx_cHQP.mul_(self.dt_cHQ[..., None]).addcmul_(dy_cHQP, D_H[:, None, None])
        return _RowGradients(
            x_THP=self._tokens(dx_cHQP.transpose(1, 2)),
            dt_TH=self._tokens(ddt_cHQ.transpose(1, 2)),
            A_H=(ddtA_cHQ * self.dt_cHQ).sum((0, 2)),
            B_TGN=self._tokens(dB_cGQN.transpose(1, 2)),
            C_TGN=self._tokens(dC_cGQN.transpose(1, 2)),
            D_H=dD_H,
        )

    def _add_product(self, total_cGQN: Tensor, left: Tensor, right: Tensor) -> None:
        total_cGQN.flatten(0, 1).baddbmm_(left.flatten(0, 1), right.flatten(0, 1))

    def _chunk_dot(self, left_cGNM: Tensor, right_cGNM: Tensor) -> Tensor:
        """Sum over each head's state, [c, H]."""
        product = torch.mul(left_cGNM, right_cGNM, out=self.scratch("dot", *left_cGNM.shape))
        return product.sum(2).unflatten(2, (-1, self.x_cQHP.shape[3])).sum(3).flatten(1, 2)

    def _reverse_running_sum(self, da_cHQ: Tensor) -> Tensor:
        """Gradient of the running sum: each element collects what came after it in its chunk and document."""
        if self.visible.dim() == 2:
            return da_cHQ.flip(-1).cumsum_(-1).flip(-1)
        return torch.matmul(da_cHQ, self.visible[:, 0].to(da_cHQ.dtype))

    def _tokens(self, chunked: Tensor) -> Tensor:
        """[c, Q, ...] -> [T, ...], or [c, Q, ...] itself, whose copy into a buffer needs no reshape."""
        return chunked.flatten(0, 1)[: self.length]


def _chunk(value_T: Tensor, chunk_size: int) -> Tensor:
    """[T, ...] seen as [c, Q, ...], zeros after the end: with dt = 0 they change no state and no output."""
    missing = -value_T.shape[0] % chunk_size
    if missing:
        value_T = torch.cat([value_T, value_T.new_zeros(missing, *value_T.shape[1:])])
    return value_T.unflatten(0, (-1, chunk_size))


def _chunk_runs(runs_T: Tensor, chunk_size: int) -> Tensor:
    """As `_chunk`; the tokens after the end belong to the last document."""
    missing = -runs_T.shape[0] % chunk_size
    return (
        F.pad(runs_T[None], (0, missing), mode="replicate")[0].unflatten(0, (-1, chunk_size))
        if missing
        else (runs_T.unflatten(0, (-1, chunk_size)))
    )
