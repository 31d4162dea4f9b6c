"""Kernels of a GPU compiled and tuned before a run fills its memory.

The first call of a Triton kernel compiles it and times its variants, on scratch memory of its own.

Shapes: B batch, T tokens, D hidden size.
"""

import torch

from model.hybrid import HybridLM
from model.kernels import choice
from model.kernels.documents import Documents
from model.loss import token_cross_entropy


def warm(lm: HybridLM, rows: int, length: int) -> None:
    """Read so many rows of random numbers with one block of each kind, whole rows and packed ones, and drop the gradients.

    Nothing where no fused kernels are taken. `lm` is whole, on its device, in training precision.
    """
    sample = torch.empty(0, dtype=lm.activation_dtype, device=lm.device)
    if not choice.fused(sample):
        return
    generator = torch.Generator(lm.device).manual_seed(0)
    residual = lm.backbone.embeddings.weight.dtype
    x_BTD = torch.randn(rows, length, lm.config.hidden_size, generator=generator, device=lm.device)
    x_BTD = x_BTD.to(residual).requires_grad_()
    packed = Documents(torch.arange(length, device=lm.device).ge(length // 2).long().expand(rows, -1))
    blocks = dict(zip(lm.config.pattern, lm.backbone.layers, strict=True))
    for block in blocks.values():
        for documents in (None, packed):
            y_BTD = block(x_BTD, lm.activation_dtype, documents)
            leaves = [x_BTD, *block.parameters()]
            torch.autograd.grad(y_BTD, leaves, torch.ones_like(y_BTD), allow_unused=True)
    hidden_BTD = lm.backbone.norm_f(x_BTD, lm.activation_dtype)
    labels_BT = torch.zeros(rows, length, dtype=torch.long, device=lm.device)
    loss = token_cross_entropy(hidden_BTD, lm.lm_head.weight, labels_BT).total
    torch.autograd.grad(loss, [x_BTD, lm.lm_head.weight])
    if choice.fused_scan(sample, lm.config.chunk_size):
        from model.kernels.cuda import tuning

        tuning.keep()
