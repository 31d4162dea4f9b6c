"""Log-probabilities of given tokens, with a gradient for each of them, never holding the logits of more than one chunk.

The losses of DPO and GRPO are functions of these, so their gradient is not known while the logits are there: the
backward pass makes each chunk's logits again. Tokens without a label cost nothing.

Shapes: n tokens with a label, D hidden size, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels.matmul import add_weight_gradient_, input_gradient, linear
from model.loss import IGNORED, token_chunks


def token_logprobs(
    hidden: Tensor, head_weight_VD: Tensor, labels: Tensor, *, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(log-probabilities of the labels, entropies) in nats, of softmax(`hidden @ head^T` / temperature).

    hidden [..., D], labels [...] with IGNORED where no token is asked for. Both results have the shape of the labels, 0
    where ignored, in float32 (float64 where hidden is). Only the log-probabilities carry a gradient.
    """
    kept = labels != IGNORED
    logprobs_n, entropies_n = _LinearLogprobs.apply(hidden[kept], head_weight_VD, labels[kept], temperature)
    wide = torch.zeros(labels.shape, dtype=logprobs_n.dtype, device=hidden.device)
    return wide.masked_scatter(kept, logprobs_n), wide.masked_scatter(kept, entropies_n)


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_nD: Tensor, weight_VD: Tensor, labels_n: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden_nD.dtype, torch.float32)
        logprobs_n = torch.empty(labels_n.shape, dtype=wide, device=hidden_nD.device)
        entropies_n = torch.empty_like(logprobs_n)
        for chunk in token_chunks(len(labels_n), len(weight_VD)):
            logp_nV = linear_log_softmax(hidden_nD[chunk], weight_VD, temperature)
            logprobs_n[chunk] = logp_nV.gather(1, labels_n[chunk, None])[:, 0]
            entropies_n[chunk] = -(logp_nV.exp() * logp_nV).sum(1)
        ctx.save_for_backward(hidden_nD, weight_VD, labels_n)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropies_n)
        return logprobs_n, entropies_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_n: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_nD, weight_VD, labels_n = ctx.saved_tensors
        compute_VD = weight_VD.to(hidden_nD.dtype)
        dhidden_nD = torch.empty_like(hidden_nD)
        dweight_VD = torch.zeros(weight_VD.shape, dtype=grad_n.dtype, device=weight_VD.device)
        for chunk in token_chunks(len(labels_n), len(weight_VD)):
            scale_n1 = grad_n[chunk, None] / ctx.temperature
            dlogits_nV = (
                linear_log_softmax(hidden_nD[chunk], weight_VD, ctx.temperature).exp_().mul_(-scale_n1)
            )
            dlogits_nV.scatter_add_(1, labels_n[chunk, None], scale_n1)
            dlogits_nV = dlogits_nV.to(hidden_nD.dtype)
            dhidden_nD[chunk] = input_gradient(dlogits_nV, compute_VD)
            add_weight_gradient_(dweight_VD, dlogits_nV, hidden_nD[chunk])
        return dhidden_nD, dweight_VD.to(weight_VD.dtype), None, None


def linear_log_softmax(hidden_nD: Tensor, weight_VD: Tensor, temperature: float) -> Tensor:
    """[n, V] log softmax(`hidden @ weight^T` / temperature), float32 (float64 where hidden is), without a gradient."""
    wide = torch.promote_types(hidden_nD.dtype, torch.float32)
    return log_softmax_(linear(hidden_nD, weight_VD.to(hidden_nD.dtype)).to(wide), temperature)


def log_softmax_(logits_nV: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature), in place."""
    logits_nV.div_(temperature)
    logits_nV.sub_(logits_nV.amax(1, keepdim=True))
    return logits_nV.sub_(logits_nV.exp().sum(1, keepdim=True).log_())
