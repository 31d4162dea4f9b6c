"""The attention mixer: grouped queries, causal, no position encoding, no biases.

Shapes: B batch, T tokens, D hidden size, q query heads, k key/value heads, h head_dim.
"""

from torch import Tensor, nn

from model.config import HybridConfig
from model.inference.state import KeyValueCache, Places
from model.kernels import cpu_decoding
from model.kernels.attention import cached_attention, causal_attention
from model.kernels.documents import Documents
from model.layers.linear import Linear
from model.layers.norm import RMSNorm
from model.parallel.context import RowPiece


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
        places: Places | None = None,
        piece: RowPiece | None = None,
    ) -> Tensor:
        """With a cache, the tokens follow the cached ones at their places; as a piece, those of the pieces before."""
        query_BTqh, key_BTkh, value_BTkh = (
            projection(x_BTD).unflatten(-1, (-1, self.head_dim))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if piece is not None:
            key_BSkh, value_BSkh = piece.rows_so_far(key_BTkh), piece.rows_so_far(value_BTkh)
            out_BTqh = cached_attention(query_BTqh, key_BSkh, value_BSkh, piece.visible_BTS)
        elif cache is None:
            out_BTqh = causal_attention(query_BTqh, key_BTkh, value_BTkh, documents)
        else:
            assert places is not None
            key_BSkh, value_BSkh = cache.append(key_BTkh, value_BTkh, places)
            if places.first:
                out_BTqh = causal_attention(query_BTqh, key_BTkh, value_BTkh)
            else:
                out_BTqh = cached_attention(query_BTqh, key_BSkh, value_BSkh, places.visible_BTS)
        return self.o_proj(out_BTqh.flatten(2))

    def block_step(self, x_B1D: Tensor, norm: RMSNorm, cache: KeyValueCache, places: Places) -> Tensor | None:
        """The block around this mixer, x + mixer(norm(x)), in one compiled call; None where there is none for the case."""
        query = self.q_proj.weight
        cached = places.end * len(places.lengths) * self.k_proj.weight.shape[0]
        if not cpu_decoding.serves_rows(x_B1D, query, query.numel()) or cached > cpu_decoding.MOST_NUMBERS:
            return None
        cache.make_room(places.end)
        return cpu_decoding.attention_block(
            x_B1D,
            norm.weight,
            norm.eps,
            query,
            self.k_proj.weight,
            self.v_proj.weight,
            self.o_proj.weight,
            cache.key_BSkh,
            cache.value_BSkh,
            places.lengths_B,
        )
