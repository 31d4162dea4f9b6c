"""Parameters, FLOPs and cache bytes of a shape, by formula: what a plan needs before any tensor exists.

Legend: D hidden size, F MLP width, V vocabulary, E Mamba width (heads x head_dim), H Mamba heads, P Mamba head_dim,
G groups, N state size, K conv width, Q chunk length, q/kv attention heads, hd attention head_dim.
"""

from dataclasses import dataclass

from model.config import ATTENTION, MAMBA, MLP, HybridConfig


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters by kind of block, each summed over its blocks and with the block's pre-norm."""

    mamba: int
    attention: int
    mlp: int
    embedding: int
    head: int
    final_norm: int

    @property
    def total(self) -> int:
        return self.mamba + self.attention + self.mlp + self.embedding + self.head + self.final_norm

    @property
    def without_input_embedding(self) -> int:
        """What multiplies a token: an embedding lookup costs no matrix product."""
        return self.total - self.embedding


def mamba_block_parameters(config: HybridConfig) -> int:
    """D(2E + 2GN + H) + (E + 2GN)(K + conv bias) + 3H + E + ED + D, and biases where the config has them."""
    projection_bias = (config.in_proj_width + config.hidden_size) if config.use_bias else 0
    return (
        config.hidden_size * config.in_proj_width
        + config.conv_width * (config.conv_kernel + config.use_conv_bias)
        + 3 * config.mamba_num_heads
        + config.mamba_width
        + config.mamba_width * config.hidden_size
        + projection_bias
        + config.hidden_size
    )


def attention_block_parameters(config: HybridConfig) -> int:
    """2 D q hd + 2 D kv hd + D."""
    heads = config.num_attention_heads + config.num_key_value_heads
    return 2 * config.hidden_size * heads * config.head_dim + config.hidden_size


def mlp_block_parameters(config: HybridConfig) -> int:
    """2 D F + D, and biases where the config has them."""
    bias = (config.intermediate_size + config.hidden_size) if config.mlp_bias else 0
    return 2 * config.hidden_size * config.intermediate_size + bias + config.hidden_size


def count_parameters(config: HybridConfig) -> ParameterCounts:
    """Exact counts: the sum over the tensors that `HybridLM(config)` has."""
    return ParameterCounts(
        mamba=config.pattern.count(MAMBA) * mamba_block_parameters(config),
        attention=config.pattern.count(ATTENTION) * attention_block_parameters(config),
        mlp=config.pattern.count(MLP) * mlp_block_parameters(config),
        embedding=config.vocab_size * config.hidden_size,
        head=config.vocab_size * config.hidden_size,
        final_norm=config.hidden_size,
    )


def forward_flops_per_token(config: HybridConfig, length: int) -> float:
    """Floating point operations of one token's forward pass in a sequence of `length` tokens, averaged over positions.

    Matrix products of the weights (2 a parameter), causal attention scores and values (half the square), and the
    chunked scan's four products. Elementwise work is left out.
    """
    counts = count_parameters(config)
    of_blocks = sum(forward_flops_by_kind(config, length).values())
    return of_blocks + 2.0 * (counts.head + counts.final_norm)


def forward_flops_by_kind(config: HybridConfig, length: int) -> dict[str, float]:
    """As `forward_flops_per_token`, of all blocks of each kind, by its letter."""
    counts = count_parameters(config)
    attention = 2.0 * length * config.num_attention_heads * config.head_dim
    chunk = min(config.chunk_size, length)
    groups_state = config.n_groups * config.ssm_state_size
    scan = (
        2.0 * chunk * (groups_state + config.mamba_width) + 4.0 * config.mamba_width * config.ssm_state_size
    )
    return {
        MAMBA: 2.0 * counts.mamba + scan * config.pattern.count(MAMBA),
        ATTENTION: 2.0 * counts.attention + attention * config.pattern.count(ATTENTION),
        MLP: 2.0 * counts.mlp,
    }


def training_flops_per_token(config: HybridConfig, length: int) -> float:
    """Forward and backward: three times the forward pass."""
    return 3.0 * forward_flops_per_token(config, length)


def kv_cache_bytes(config: HybridConfig, length: int, batch: int = 1, element_bytes: int = 2) -> int:
    """Keys and values of `length` tokens in every attention block."""
    per_token = 2 * config.pattern.count(ATTENTION) * config.num_key_value_heads * config.head_dim
    return per_token * length * batch * element_bytes


def ssm_state_bytes(config: HybridConfig, batch: int = 1) -> int:
    """SSM states [H, P, N] of every Mamba block, in float32."""
    return 4 * config.pattern.count(MAMBA) * config.mamba_width * config.ssm_state_size * batch


def conv_state_bytes(config: HybridConfig, batch: int = 1, element_bytes: int = 2) -> int:
    """The last K - 1 inputs of every Mamba convolution."""
    return config.pattern.count(MAMBA) * config.conv_width * (config.conv_kernel - 1) * batch * element_bytes
