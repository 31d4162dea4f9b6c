"""Peak memory of a training step, by kind and by formula, before any tensor exists.

What the backward pass keeps of each block follows from the layers' own code (model/layers, model/kernels). `e` is the
size of an activation element: 4 bytes in float32, 2 in bfloat16; the residual stream, the norms' inputs, dt and the
scan's states are float32 always.

Shapes: D hidden size, F MLP width, H Mamba heads, N state size, Q chunk length, q/kv attention heads.
"""

from dataclasses import dataclass

from model.config import ATTENTION, MAMBA, MLP, HybridConfig
from model.counting import count_parameters
from model.loss import chunk_rows

LOSS_CHUNKS = 4
"""Chunks of logits alive at once in the loss: logits that become their gradient, their copies, a product of weights."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes by kind."""

    weights: int
    gradients: int
    optimizer: int
    mamba_activations: int
    attention_activations: int
    mlp_activations: int
    loss: int
    working: int

    @property
    def activations(self) -> int:
        return self.mamba_activations + self.attention_activations + self.mlp_activations

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.loss + self.working

    def section(self) -> dict[str, str | int | float]:
        """Rows of a plan."""
        return {
            "weights_bytes": self.weights,
            "gradients_bytes": self.gradients,
            "optimizer_bytes": self.optimizer,
            "mamba_activations_bytes": self.mamba_activations,
            "attention_activations_bytes": self.attention_activations,
            "mlp_activations_bytes": self.mlp_activations,
            "loss_bytes": self.loss,
            "working_bytes": self.working,
            "total_bytes": self.total,
        }


def training_memory(config: HybridConfig, sequences: int, length: int, precision: str) -> TrainingMemory:
    """Memory of one micro-batch of `sequences` x `length` tokens with float32 masters and AdamW."""
    parameters = count_parameters(config).total
    element = 2 if precision == "bfloat16" else 4
    tokens = sequences * length
    cast_weights = 2 * parameters if precision == "bfloat16" else 0
    return TrainingMemory(
        weights=4 * parameters + cast_weights,
        gradients=4 * parameters,
        optimizer=8 * parameters,
        mamba_activations=config.pattern.count(MAMBA) * tokens * _mamba_bytes(config, element),
        attention_activations=config.pattern.count(ATTENTION) * tokens * _attention_bytes(config, element),
        mlp_activations=config.pattern.count(MLP) * tokens * _mlp_bytes(config, element),
        loss=tokens * config.hidden_size * (4 + 2 * element)
        + 4 * config.vocab_size * config.hidden_size
        + LOSS_CHUNKS * 4 * config.vocab_size * chunk_rows(config.vocab_size),
        working=length * _row_working_bytes(config) if MAMBA in config.pattern else 0,
    )


def forward_bytes(config: HybridConfig, sequences: int, length: int, dtype: str) -> dict[str, int]:
    """Memory of a pass without gradients over so many rows, by kind, with weights in `dtype`.

    Activations: of the widest block, the residual, the hidden states, and chunks of logits.
    """
    element = 2 if dtype == "bfloat16" else 4
    tokens = sequences * length
    of_kind = {MAMBA: _mamba_bytes, ATTENTION: _attention_bytes, MLP: _mlp_bytes}
    widest = max(of_kind[kind](config, element) for kind in set(config.pattern))
    return {
        "weights_bytes": element * count_parameters(config).total,
        "activations_bytes": tokens * (widest + config.hidden_size * (4 + 2 * element))
        + (length * _row_working_bytes(config) if MAMBA in config.pattern else 0)
        + LOSS_CHUNKS * 4 * config.vocab_size * chunk_rows(config.vocab_size),
    }


def _block_bytes(config: HybridConfig, element: int) -> int:
    """Of any block: its input (the residual, float32) and its normalized input (what the projections keep)."""
    return config.hidden_size * (4 + element)


def _mamba_bytes(config: HybridConfig, element: int) -> int:
    projected = config.in_proj_width * element
    convolved = config.conv_width * element
    time_steps = 3 * 4 * config.mamba_num_heads
    chunk_states = 4 * config.mamba_width * config.ssm_state_size // config.chunk_size
    scanned_and_gated = 2 * config.mamba_width * element
    return (
        _block_bytes(config, element) + projected + convolved + time_steps + chunk_states + scanned_and_gated
    )


def _row_working_bytes(config: HybridConfig) -> int:
    """Per token of the one row that a Mamba block's backward pass works on, in float32 (kernels/scan.py, convolution.py)."""
    inputs_and_outputs = 7 * config.mamba_width + 4 * config.n_groups * config.ssm_state_size
    within_chunks = 2 * (config.mamba_num_heads + config.n_groups) * config.chunk_size
    between_chunks = 2 * config.mamba_width * config.ssm_state_size // config.chunk_size
    convolution = 3 * config.conv_width
    return 4 * (inputs_and_outputs + within_chunks + between_chunks + convolution)


def _attention_bytes(config: HybridConfig, element: int) -> int:
    queries = config.num_attention_heads * config.head_dim
    keys_values = 2 * config.num_key_value_heads * config.head_dim
    return (
        _block_bytes(config, element) + (2 * queries + keys_values) * element + 4 * config.num_attention_heads
    )


def _mlp_bytes(config: HybridConfig, element: int) -> int:
    rectified_and_squared = 2 * config.intermediate_size * element
    return _block_bytes(config, element) + rectified_and_squared
