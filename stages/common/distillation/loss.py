"""Forward KL divergence of a student from its teacher, KL(teacher || student), a token at a time, on logits.

As in model/loss.py, a chunk's logits are made, reduced to losses, turned into their gradient in place, multiplied back into
the gradients of the student's hidden states and head, and dropped: never all logits of either model. Tokens without a
label cost nothing. With z the student's logits, q = softmax(z / T) and p the teacher's distribution at the same T,

    forward_kl = T^2 sum_i p_i log(p_i / q_i)                             its gradient by z_i: T (q_i - p_i)
    top_k_kl   = T^2 [sum_{i in K} p_i log(p_i / q_i) + t log(t / s)]     T (q_i - p_i) in K, else T (q_i - t q_i / s)

where K are the teacher's k likeliest tokens and t and s are what teacher and student give to all others together. By
the chain rule of the divergence, forward_kl - top_k_kl = T^2 t KL(p(.|not K) || q(.|not K)) >= 0, and the two gradients
differ by at most 2 T t in the sum of absolute values.

Temperature and its square: Hinton et al., arXiv 1503.02531.

Shapes: n tokens with a label, D and E hidden sizes of student and teacher, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.logprobs import linear_log_softmax, log_softmax_
from model.loss import IGNORED, TokenLosses, linear_losses, token_chunks

Divergence = Callable[[slice, Tensor], tuple[Tensor, Tensor]]
"""Of a chunk of tokens and the student's log q [c, V], which it may overwrite: KL [c], and its gradient by z / T [c, V]."""


@dataclass(frozen=True)
class TopK:
    """A teacher's k likeliest tokens at each of n positions: `ids_nk` (int64), and `logprobs_nk1`, whose last column is the
    log-probability of all other tokens together. Each row sums to probability 1.
    """

    ids_nk: Tensor
    logprobs_nk1: Tensor


def forward_kl(
    student_hidden: Tensor,
    student_head_VD: Tensor,
    teacher_hidden: Tensor,
    teacher_head_VE: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
) -> TokenLosses:
    """KL(teacher || student) in nats, times the temperature's square, where there is a label.

    student_hidden [..., D], teacher_hidden [..., E], labels [...] with IGNORED where a token does not count. Computed in
    float32 (float64 where the student's states are); the gradient is for the student's states and head alone.
    """
    kept = labels != IGNORED
    teacher_nE, head_VE = teacher_hidden[kept].detach(), teacher_head_VE.detach()

    def divergence(chunk: slice, logq_nV: Tensor) -> tuple[Tensor, Tensor]:
        logp_nV = linear_log_softmax(teacher_nE[chunk], head_VE, temperature).to(logq_nV.dtype)
        p_nV = logp_nV.exp()
        kl_n = logp_nV.sub_(logq_nV).mul_(p_nV).sum(1)
        return kl_n, logq_nV.exp_().sub_(p_nV)

    return _token_losses(student_hidden, student_head_VD, labels, divergence, temperature)


def top_k_kl(
    student_hidden: Tensor, student_head_VD: Tensor, top: TopK, labels: Tensor, *, temperature: float = 1.0
) -> TokenLosses:
    """The divergence over the teacher's k likeliest tokens and all others as one: a lower bound of `forward_kl`.

    `top` holds the tokens with a label, in their order, at the same temperature. Otherwise as `forward_kl`.
    """

    def divergence(chunk: slice, logq_nV: Tensor) -> tuple[Tensor, Tensor]:
        ids_nk, logp_nk1 = top.ids_nk[chunk], top.logprobs_nk1[chunk].to(logq_nV.dtype)
        p_nk1 = logp_nk1.exp()
        others_nV = logq_nV.scatter(1, ids_nk, -torch.inf)
        log_s_n1 = others_nV.logsumexp(1, keepdim=True)
        logq_nk1 = torch.cat([logq_nV.gather(1, ids_nk), log_s_n1], 1)
        kl_n = (p_nk1 * (logp_nk1 - logq_nk1)).sum(1)
        drawn_nV = others_nV.sub_(log_s_n1).exp_().mul_(p_nk1[:, -1:])  # t q_i / s, 0 in K
        gradient_nV = logq_nV.exp_().sub_(drawn_nV)
        return kl_n, gradient_nV.scatter_add_(1, ids_nk, -p_nk1[:, :-1])

    return _token_losses(student_hidden, student_head_VD, labels, divergence, temperature)


@torch.no_grad()
def top_k(hidden_nE: Tensor, head_VE: Tensor, k: int, *, temperature: float = 1.0) -> TopK:
    """The k likeliest tokens, k < V, of softmax(`hidden @ head^T` / temperature), likeliest first."""
    wide = torch.promote_types(hidden_nE.dtype, torch.float32)
    tokens = len(hidden_nE)
    ids_nk = torch.empty(tokens, k, dtype=torch.int64, device=hidden_nE.device)
    logprobs_nk1 = torch.empty(tokens, k + 1, dtype=wide, device=hidden_nE.device)
    for chunk in token_chunks(tokens, len(head_VE)):
        logp_nV = linear_log_softmax(hidden_nE[chunk], head_VE, temperature)
        logprobs_nk1[chunk, :k], ids_nk[chunk] = logp_nV.topk(k)
        logprobs_nk1[chunk, k] = logp_nV.scatter_(1, ids_nk[chunk], -torch.inf).logsumexp(1)
    return TopK(ids_nk, logprobs_nk1)


def _token_losses(
    hidden: Tensor, head_VD: Tensor, labels: Tensor, divergence: Divergence, temperature: float
) -> TokenLosses:
    kept = labels != IGNORED

    def losses(chunk: slice, logits_cV: Tensor) -> tuple[Tensor, Tensor]:
        kl_c, gradient_cV = divergence(chunk, log_softmax_(logits_cV, temperature))
        return kl_c * temperature**2, gradient_cV.mul_(temperature)

    total, per_token_n = linear_losses(hidden[kept], head_VD, losses)
    wide = torch.zeros(labels.shape, dtype=per_token_n.dtype, device=hidden.device)
    return TokenLosses(total, wide.masked_scatter(kept, per_token_n), len(per_token_n))
