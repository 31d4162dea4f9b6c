"""Next-token cross-entropy of hidden states without ever holding the logits of more than one chunk of tokens.

With a vocabulary of 131,072, the float32 logits of 8,192 tokens alone would take 4 GiB. Here a chunk's logits are made,
reduced to losses, turned into their gradient in place, multiplied back into the gradients of hidden states and head,
and dropped.

Shapes: n tokens (batch and time flattened), D hidden size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels.matmul import linear, linear_backward

IGNORED = -100
"""Label of a token that is not trained on."""

_CHUNK_BYTES = 4 * 2**20
_FEWEST_ROWS = 256


def chunk_rows(vocab_size: int) -> int:
    """Tokens whose logits are held at a time: about 4 MiB in float32, but enough of them to make a matrix product of."""
    return max(_FEWEST_ROWS, _CHUNK_BYTES // (4 * vocab_size))


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
    hidden_nD, labels_n = hidden.flatten(0, -2), labels.flatten()
    total, per_token_n = _LinearCrossEntropy.apply(hidden_nD, head_weight_VD, labels_n)
    return TokenLosses(total, per_token_n.view(labels.shape), int((labels_n != IGNORED).sum()))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_nD: Tensor, weight_VD: Tensor, labels_n: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden_nD.dtype, torch.float32)
        weight_compute_VD = weight_VD.to(hidden_nD.dtype)
        rows = chunk_rows(weight_VD.shape[0])
        per_token_n = torch.zeros(labels_n.shape, dtype=wide, device=hidden_nD.device)
        dhidden_nD, dweight_VD = None, None
        if any(ctx.needs_input_grad):
            dhidden_nD = torch.empty_like(hidden_nD)
            dweight_VD = torch.zeros(weight_VD.shape, dtype=wide, device=weight_VD.device)
        for start in range(0, hidden_nD.shape[0], rows):
            chunk = slice(start, start + rows)
            labels = labels_n[chunk]
            kept = labels != IGNORED
            logits = linear(hidden_nD[chunk], weight_compute_VD).to(wide)
            targets = labels.clamp(min=0)[:, None]
            # By hand and in place: torch.log_softmax takes three times as long as its exponentials.
            logits.sub_(logits.amax(1, keepdim=True))
            target_logit = logits.gather(1, targets)
            p = logits.exp_()
            total = p.sum(1, keepdim=True)
            per_token_n[chunk] = torch.where(kept, (total.log() - target_logit)[:, 0], per_token_n[chunk])
            if dhidden_nD is None or dweight_VD is None:
                continue
            dlogits = p.div_(total)
            dlogits.scatter_add_(1, targets, dlogits.new_full((1, 1), -1.0).expand_as(targets))
            dlogits = dlogits.mul_(kept[:, None]).to(hidden_nD.dtype)
            dhidden_nD[chunk], dweight = linear_backward(dlogits, hidden_nD[chunk], weight_compute_VD)
            dweight_VD += dweight
        ctx.save_for_backward(dhidden_nD, dweight_VD)
        ctx.weight_dtype = weight_VD.dtype
        ctx.mark_non_differentiable(per_token_n)
        return per_token_n.sum(), per_token_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        dhidden_nD, dweight_VD = ctx.saved_tensors
        dhidden = None if dhidden_nD is None else dhidden_nD * grad.to(dhidden_nD.dtype)
        dweight = None if dweight_VD is None else (dweight_VD * grad).to(ctx.weight_dtype)
        return dhidden, dweight, None
