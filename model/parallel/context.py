"""Context parallelism: the tokens of a row in equal pieces, one a rank, in order.

What crosses the borders: the last inputs of a convolution, keys and values, and the state of a scan (`model.parallel.scan`).
Each is one collective forward and one backward, in which every rank takes part, whether it needs what comes or not.

Shapes: B batch, T tokens of a piece, S tokens of the row, C channels, J convolution inputs before
a token, k key/value heads, h head_dim, r ranks.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.errors import UsageError
from model.kernels.documents import Documents
from model.parallel.group import RankGroup
from model.parallel.shape import MeshShape


class Context(RankGroup):
    """The ranks that share a row, in the order of their pieces."""

    def gather(self, piece: Tensor) -> Tensor:
        """[r, ...] what every rank gives, without a gradient."""
        pieces = piece.new_empty(self.size, *piece.shape)
        dist.all_gather_into_tensor(pieces.flatten(0, 1), piece.detach().contiguous(), group=self.group)
        return pieces

    def add(self, pieces_r: Tensor) -> Tensor:
        """Of what every rank gives for every rank, [r, ...], the sum of what they give for this one."""
        mine = torch.empty_like(pieces_r[0])
        dist.reduce_scatter_tensor(mine, pieces_r.flatten(0, 1), group=self.group)
        return mine

    def cut(self, row_BS: Tensor) -> Tensor:
        """[B, T] of this rank. UsageError if the row has no equal pieces."""
        length = MeshShape(context=self.size).piece(row_BS.shape[1])
        return row_BS[:, self.rank * length :][:, :length]

    def row(self, piece_BT: Tensor) -> Tensor:
        """[B, S] of which every rank holds a piece."""
        return self.gather(piece_BT).transpose(0, 1).flatten(1)

    def piece(self, shape: torch.Size, document_ids_BT: Tensor | None, device: torch.device) -> "RowPiece":
        """This rank's tokens, [B, T], of the rows of which every rank now holds a piece."""
        rows, length = shape
        if document_ids_BT is None:
            runs_BS = torch.zeros(rows, length * self.size, dtype=torch.long, device=device)
            return RowPiece(self, length, runs_BS)
        if document_ids_BT.shape != shape:
            raise UsageError(
                f"document ids have shape {tuple(document_ids_BT.shape)}, the input ids {tuple(shape)}",
                remedy="give one document id a token",
            )
        ids_BS = self.row(document_ids_BT)
        changes = ids_BS[:, 1:] != ids_BS[:, :-1]
        return RowPiece(self, length, F.pad(changes.long().cumsum(1), (1, 0)))


@dataclass(frozen=True)
class RowPiece:
    """A rank's tokens of whole rows, whose documents `runs_BS` counts from the left."""

    context: Context
    length: int
    runs_BS: Tensor

    @cached_property
    def start(self) -> int:
        return self.context.rank * self.length

    @cached_property
    def documents(self) -> Documents | None:
        """Those of this piece; None if it lies within one in every row."""
        runs_BT = self.runs_BS[:, self.start :][:, : self.length]
        return Documents(runs_BT) if bool((runs_BT[:, -1] != runs_BT[:, 0]).any()) else None

    @cached_property
    def goes_on_BT(self) -> Tensor:
        """Whether a token's document began before this piece."""
        runs_BT = self.runs_BS[:, self.start :][:, : self.length]
        if not self.start:
            return torch.zeros_like(runs_BT, dtype=torch.bool)
        return runs_BT == self.runs_BS[:, self.start - 1, None]

    def with_tail(self, x_BTC: Tensor, tokens: int) -> tuple[Tensor, Documents]:
        """x [B, J + T, C] behind the last J = `tokens` of the piece before, zeros where there is none; and its documents."""
        MeshShape(context=self.context.size).piece(self.length * self.context.size, tokens)
        before_BJ = self.runs_BS[:, self.start - tokens : self.start] if self.start else None
        runs_BT = self.runs_BS[:, self.start :][:, : self.length]
        runs_BS = (
            F.pad(runs_BT, (tokens, 0), value=-1)
            if before_BJ is None
            else torch.cat([before_BJ, runs_BT], dim=1)
        )
        return cast(Tensor, _WithTail.apply(x_BTC, tokens, self.context)), Documents(runs_BS)

    def rows_so_far(self, value_BTkh: Tensor) -> Tensor:
        """[B, S, k, h] of the row up to the end of this piece."""
        return cast(Tensor, _Gather.apply(value_BTkh, self.context))[:, : self.start + self.length]

    @cached_property
    def visible_BTS(self) -> Tensor:
        """bool: which tokens of the row, up to the end of this piece, each of its tokens may see."""
        end = self.start + self.length
        same_BTS = self.runs_BS[:, self.start : end, None] == self.runs_BS[:, None, :end]
        return same_BTS.tril_(self.start)


class _WithTail(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTC: Tensor, tokens: int, context: Context) -> Tensor:
        ctx.tokens, ctx.context = tokens, context
        tails_rBJC = context.gather(x_BTC[:, -tokens:])
        tail_BJC = tails_rBJC[context.rank - 1] if context.rank else torch.zeros_like(tails_rBJC[0])
        return torch.cat([tail_BJC, x_BTC], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BSC: Tensor) -> tuple[Tensor | None, ...]:
        tokens, context = ctx.tokens, ctx.context
        grads_rBJC = context.gather(grad_BSC[:, :tokens])
        dx_BTC = grad_BSC[:, tokens:].clone()
        if context.rank + 1 < context.size:
            dx_BTC[:, -tokens:] += grads_rBJC[context.rank + 1]
        return dx_BTC, None, None


class _Gather(torch.autograd.Function):
    """[B, T, ...] -> [B, r T, ...]; the gradients of all ranks are added."""

    @staticmethod
    def forward(ctx: Any, piece_BT: Tensor, context: Context) -> Tensor:
        ctx.context = context
        return context.gather(piece_BT).transpose(0, 1).flatten(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BS: Tensor) -> tuple[Tensor, None]:
        pieces_rBT = grad_BS.unflatten(1, (ctx.context.size, -1)).transpose(0, 1).contiguous()
        return ctx.context.add(pieces_rBT), None
