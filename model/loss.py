"""Losses on the logits of hidden states, next-token cross-entropy first, without ever holding more than one chunk's logits.

With a vocabulary of 131,072, the float32 logits of 8,192 tokens alone would take 4 GiB. Here a chunk's logits are made,
reduced to losses, turned into their gradient in place, multiplied back into the gradients of hidden states and head,
and dropped.

Shapes: n tokens (batch and time flattened), c of them in a chunk, D hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels import choice
from model.kernels.masters import narrowed
from model.kernels.matmul import add_weight_gradient_, input_gradient, linear

IGNORED = -100
"""Label of a token that is not trained on."""

_CHUNK_BYTES, _FUSED_CHUNK_BYTES = 4 * 2**20, 2**31
_FEWEST_ROWS = 256


def chunk_rows(vocab_size: int, *, fused: bool = False) -> int:
    """Tokens whose logits are held at a time: about 4 MiB in float32, which stay in a CPU's cache, but enough of them to
    make a matrix product of; 2 GiB where one kernel of a GPU makes losses and gradients of them in place."""
    return max(_FEWEST_ROWS, (_FUSED_CHUNK_BYTES if fused else _CHUNK_BYTES) // (4 * vocab_size))


ChunkLosses = Callable[[slice, Tensor], tuple[Tensor, Tensor]]
"""Of a chunk of tokens and their logits [c, V], which it may overwrite: losses [c], and their gradient by the logits."""


@dataclass(frozen=True)
class TokenLosses:
    """Sum of the losses in nats (carries the gradient), each token's loss, and how many tokens were counted."""

    total: Tensor
    per_token: Tensor
    count: int


def next_token_labels(
    input_ids_BT: Tensor, document_ids_BT: Tensor | None = None, loss_mask_BT: Tensor | None = None
) -> Tensor:
    """[B, T] labels: the following token of the same document, else IGNORED. Padding has document id -1.

    With a loss mask, a token that is 0 in it is no label.
    """
    labels_BT = torch.full_like(input_ids_BT, IGNORED)
    labels_BT[:, :-1] = input_ids_BT[:, 1:]
    if document_ids_BT is not None:
        same = (document_ids_BT[:, 1:] == document_ids_BT[:, :-1]) & (document_ids_BT[:, 1:] >= 0)
        labels_BT[:, :-1].masked_fill_(~same, IGNORED)
    if loss_mask_BT is not None:
        labels_BT[:, :-1].masked_fill_(loss_mask_BT[:, 1:] == 0, IGNORED)
    return labels_BT


def token_cross_entropy(hidden: Tensor, head_weight_VD: Tensor, labels: Tensor) -> TokenLosses:
    """Cross-entropy of `hidden @ head^T` against `labels`, in float32 (float64 where hidden is).

    hidden [..., D], labels [...] with IGNORED where a token does not count. `per_token` [...] is zero there.
    """
    labels_n = labels.flatten()
    count = int((labels_n != IGNORED).sum())
    if choice.fused(hidden):
        from model.kernels.cuda.cross_entropy import cross_entropy_

        def fused(chunk: slice, logits_cV: Tensor) -> tuple[Tensor, Tensor]:
            return cross_entropy_(logits_cV, labels_n[chunk], IGNORED), logits_cV

        total, per_token_n = linear_losses(hidden.flatten(0, -2), head_weight_VD, fused, widen=False)
        return TokenLosses(total, per_token_n.view(labels.shape), count)

    def cross_entropy(chunk: slice, logits_cV: Tensor) -> tuple[Tensor, Tensor]:
        kept_c = labels_n[chunk] != IGNORED
        targets_c1 = labels_n[chunk, None].clamp(min=0)
        # By hand and in place: torch.log_softmax takes three times as long as its exponentials.
        logits_cV.sub_(logits_cV.amax(1, keepdim=True))
        target_logit_c1 = logits_cV.gather(1, targets_c1)
        p_cV = logits_cV.exp_()
        total_c1 = p_cV.sum(1, keepdim=True)
        loss_c = (total_c1.log() - target_logit_c1)[:, 0].masked_fill(~kept_c, 0)
        p_cV.div_(total_c1).scatter_add_(1, targets_c1, p_cV.new_full((1, 1), -1.0).expand_as(targets_c1))
        return loss_c, p_cV.mul_(kept_c[:, None])

    total, per_token_n = linear_losses(hidden.flatten(0, -2), head_weight_VD, cross_entropy)
    return TokenLosses(total, per_token_n.view(labels.shape), count)


def linear_losses(
    hidden_nD: Tensor, weight_VD: Tensor, losses: ChunkLosses, *, widen: bool = True
) -> tuple[Tensor, Tensor]:
    """The sum of the losses on `hidden @ weight^T`, which carries the gradient, and each token's, [n].

    In float32 (float64 where hidden is); `losses` is asked about one chunk of tokens after the other. Without `widen` it
    gets the logits as they come from the product, in the dtype of hidden.
    """
    if not torch.is_grad_enabled():  # inside of a Function that is not known
        hidden_nD, weight_VD = hidden_nD.detach(), weight_VD.detach()
    return cast(tuple[Tensor, Tensor], _LinearLosses.apply(hidden_nD, weight_VD, losses, widen))


def token_chunks(tokens: int, vocab_size: int, *, fused: bool = False) -> list[slice]:
    """The tokens in pieces whose logits are held at a time."""
    rows = chunk_rows(vocab_size, fused=fused)
    return [slice(start, start + rows) for start in range(0, tokens, rows)]


class _LinearLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_nD: Tensor, weight_VD: Tensor, losses: ChunkLosses, widen: bool
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden_nD.dtype, torch.float32)
        compute_VD = narrowed(weight_VD, hidden_nD.dtype)
        per_token_n = torch.empty(len(hidden_nD), dtype=wide, device=hidden_nD.device)
        dhidden_nD, dweight_VD = None, None
        if any(ctx.needs_input_grad):
            dhidden_nD = torch.empty_like(hidden_nD)
            dweight_VD = torch.zeros(weight_VD.shape, dtype=wide, device=weight_VD.device)
        for chunk in token_chunks(len(hidden_nD), len(weight_VD), fused=not widen):
            logits_cV = linear(hidden_nD[chunk], compute_VD)
            per_token_n[chunk], dlogits_cV = losses(chunk, logits_cV.to(wide) if widen else logits_cV)
            if dhidden_nD is None or dweight_VD is None:
                continue
            dlogits_cV = dlogits_cV.to(hidden_nD.dtype)
            dhidden_nD[chunk] = input_gradient(dlogits_cV, compute_VD)
            add_weight_gradient_(dweight_VD, dlogits_cV, hidden_nD[chunk])
        ctx.save_for_backward(dhidden_nD, dweight_VD)
        ctx.weight_dtype = weight_VD.dtype
        ctx.mark_non_differentiable(per_token_n)
        return per_token_n.sum(), per_token_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        dhidden_nD, dweight_VD = ctx.saved_tensors
        # In place on a GPU, where it is as large as the head: autograd would refuse a second backward pass.
        scaled_VD = dweight_VD.mul_(grad) if dweight_VD.is_cuda else dweight_VD * grad
        return dhidden_nD * grad.to(dhidden_nD.dtype), scaled_VD.to(ctx.weight_dtype), None, None
