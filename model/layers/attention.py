"""The attention mixer: grouped queries, causal, no position encoding, no biases.

Shapes: B batch, T tokens, D hidden size, q query heads, k key/value heads, h head_dim.
"""

from torch import Tensor, nn

from model.config import HybridConfig
from model.inference.state import KeyValueCache
from model.kernels.attention import cached_attention, causal_attention
from model.kernels.documents import Documents
from model.layers.linear import Linear


class Attention(nn.Module):
    """[B, T, D] -> [B, T, D]. Report, section 2.1."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        query_width = config.num_attention_heads * config.head_dim
        key_width = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, query_width, bias=False)
        self.k_proj = Linear(config.hidden_size, key_width, bias=False)
        self.v_proj = Linear(config.hidden_size, key_width, bias=False)
        self.o_proj = Linear(query_width, config.hidden_size, bias=False)

    def forward(
        self,
        x_BTD: Tensor,
        documents: Documents | None = None,
        cache: KeyValueCache | None = None,
        lengths: list[int] | None = None,
        visible_BTS: Tensor | None = None,
    ) -> Tensor:
        """With a cache, the tokens follow `lengths[b]` cached ones and see what `visible_BTS` allows."""
        query_BTqh, key_BTkh, value_BTkh = (
            projection(x_BTD).unflatten(-1, (-1, self.head_dim))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if cache is None:
            out_BTqh = causal_attention(query_BTqh, key_BTkh, value_BTkh, documents)
        else:
            assert lengths is not None
            key_BSkh, value_BSkh = cache.append(key_BTkh, value_BTkh, lengths)
            out_BTqh = cached_attention(query_BTqh, key_BSkh, value_BSkh, visible_BTS)
        return self.o_proj(out_BTqh.flatten(2))
