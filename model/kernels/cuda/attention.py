"""Attention within packed documents by FlashAttention's kernel for rows of any length: no mask, no work between documents.

Shapes: B batch, T tokens, n = B T, q query heads, k key/value heads, h head_dim.
"""

import inspect
from typing import Any

from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from model.kernels.documents import Documents

_CAUSAL = (-1, 0)
_GROUPED: dict[str, Any] = (
    {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
)
"""Versions of PyTorch that do not ask share key heads among query heads by themselves."""


def documents_attention(
    query_BTqh: Tensor, key_BTkh: Tensor, value_BTkh: Tensor, documents: Documents
) -> Tensor:
    """[B, T, q, h]: every token sees itself and the earlier tokens of its document. Scale 1 / sqrt(h). Differentiable."""
    starts, longest = documents.starts
    out_nqh = varlen_attn(
        query_BTqh.flatten(0, 1),
        key_BTkh.flatten(0, 1),
        value_BTkh.flatten(0, 1),
        starts,
        starts,
        longest,
        longest,
        window_size=_CAUSAL,
        **(_GROUPED if query_BTqh.shape[2] != key_BTkh.shape[2] else {}),
    )
    assert isinstance(out_nqh, Tensor)
    return out_nqh.view(query_BTqh.shape)
