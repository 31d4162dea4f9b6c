"""Cross-entropy of rows of logits, and its gradient in place of them, in Triton: two reads and one write of the logits.

A program works on one token's row: a pass for the largest logit and the sum of the exponentials, lane by lane, and a pass
for the gradient. Sums in float32. NaN among the logits makes the loss NaN.

Shapes: c tokens, V vocabulary.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 8192
_LOWEST: tl.constexpr = tl.constexpr(-3.0e38)


def cross_entropy_(logits_cV: Tensor, labels_c: Tensor, ignored: int) -> Tensor:
    """Losses [c] float32, zero where the label is `ignored`. The logits become the gradient of their sum, in their dtype."""
    tokens, vocab = logits_cV.shape
    losses_c = torch.empty(tokens, dtype=torch.float32, device=logits_cV.device)
    block = min(_BLOCK, triton.next_power_of_2(vocab))
    _cross_entropy[(tokens,)](
        logits_cV,
        logits_cV.stride(0),
        labels_c,
        losses_c,
        vocab,
        ignored,
        BLOCK=block,
        num_warps=block // 512 or 1,
    )
    return losses_c


@triton.jit
def _cross_entropy(logits_ptr, stride, labels_ptr, losses_ptr, vocab, ignored, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    logits_ptr += token * stride
    label = tl.load(labels_ptr + token)
    columns = tl.arange(0, BLOCK)
    if label == ignored:
        for start in range(0, vocab, BLOCK):
            zeros = tl.zeros([BLOCK], dtype=tl.float32).to(logits_ptr.dtype.element_ty)
            tl.store(logits_ptr + start + columns, zeros, mask=start + columns < vocab)
        tl.store(losses_ptr + token, 0.0)
    else:
        most = tl.full([BLOCK], _LOWEST, dtype=tl.float32)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        for start in range(0, vocab, BLOCK):
            x = tl.load(logits_ptr + start + columns, mask=start + columns < vocab, other=_LOWEST).to(
                tl.float32
            )
            higher = tl.maximum(most, x)
            total = total * tl.exp(most - higher) + tl.exp(x - higher)
            most = higher
        top = tl.max(most, axis=0)
        total_all = tl.sum(total * tl.exp(most - top), axis=0)
        right = tl.load(logits_ptr + label).to(tl.float32)
        tl.store(losses_ptr + token, tl.log(total_all) + top - right)
        for start in range(0, vocab, BLOCK):
            inside = start + columns < vocab
            x = tl.load(logits_ptr + start + columns, mask=inside, other=_LOWEST).to(tl.float32)
            p = tl.exp(x - top) / total_all - tl.where(start + columns == label, 1.0, 0.0)
            tl.store(logits_ptr + start + columns, p.to(logits_ptr.dtype.element_ty), mask=inside)
