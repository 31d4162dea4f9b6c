"""Causal grouped-query attention without position encoding, on `scaled_dot_product_attention`.

Shapes: B batch, T query tokens, S key tokens, q query heads, k key/value heads, h head_dim.
"""

import torch.nn.functional as F
from torch import Tensor

from model.kernels import choice
from model.kernels.documents import Documents


def causal_attention(
    query_BTqh: Tensor, key_BTkh: Tensor, value_BTkh: Tensor, documents: Documents | None = None
) -> Tensor:
    """[B, T, q, h]: every token sees itself and the earlier tokens of its document. Scale 1 / sqrt(h)."""
    if documents is not None and choice.varlen_attention(query_BTqh):
        from model.kernels.cuda.attention import documents_attention

        return documents_attention(query_BTqh, key_BTkh, value_BTkh, documents)
    mask = None if documents is None else documents.attention_mask()
    return _attend(query_BTqh, key_BTkh, value_BTkh, mask, is_causal=documents is None)


def cached_attention(
    query_BTqh: Tensor, key_BSkh: Tensor, value_BSkh: Tensor, visible_BTS: Tensor | None
) -> Tensor:
    """[B, T, q, h] against cached keys; `visible_BTS` bool says which, None means all."""
    mask = None if visible_BTS is None else visible_BTS[:, None]
    return _attend(query_BTqh, key_BSkh, value_BSkh, mask, is_causal=False)


def _attend(
    query_BTqh: Tensor, key_BSkh: Tensor, value_BSkh: Tensor, mask: Tensor | None, is_causal: bool
) -> Tensor:
    grouped = query_BTqh.shape[2] != key_BSkh.shape[2]
    out_BqTh = F.scaled_dot_product_attention(
        query_BTqh.transpose(1, 2),
        key_BSkh.transpose(1, 2),
        value_BSkh.transpose(1, 2),
        attn_mask=mask,
        is_causal=is_causal,
        enable_gqa=grouped,
    )
    return out_BqTh.transpose(1, 2)
