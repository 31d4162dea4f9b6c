"""Peak memory of a training step, by kind and by formula, before any tensor exists: of one process, or of a rank of a mesh.

What the backward pass keeps of each block follows from the layers' own code (model/layers, model/kernels, model/parallel).
`e` is the size of an activation element: 4 bytes in float32, 2 in bfloat16; the residual stream, the norms' inputs and dt
are float32 always, and the scan's states but for the fused kernels of a GPU (model/kernels/cuda), which keep and use less.

Shapes: B rows, T tokens of a rank's piece, S tokens of a row, D hidden size, F MLP width, H Mamba heads, N state size,
Q chunk length, q/kv attention heads.
"""

from collections.abc import Collection
from dataclasses import dataclass

from model.config import ATTENTION, KINDS, MAMBA, MLP, HybridConfig
from model.counting import count_parameters
from model.loss import chunk_rows
from model.parallel.holdings import holdings
from model.parallel.shape import MeshShape
from model.precision.eligibility import fp8_layers
from model.precision.scaling import SCALINGS

LOSS_CHUNKS = 4
"""Chunks of logits alive at once in the loss: logits that become their gradient, their copies, a product of weights."""

FP8_BYTES = 1 + 4 / 128
"""Of an element that a weight gradient waits for: E4M3, and its part of a scale."""

_ELSE_KEPT = dict.fromkeys(("in_proj", "out_proj", "up_proj", "down_proj", "q_proj"), 2) | dict.fromkeys(
    ("k_proj", "v_proj", "o_proj"), 0
)
"""Bytes of an input that its projection alone keeps in bfloat16: keys and values share that of the queries, and attention
keeps its output itself."""

_NAMES = {letter: name for name, letter in KINDS.items()}


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes by kind.

    masks: which tokens see each other, where rows hold several documents or are cut in pieces. recomputed: activations of
    the one block that is computed again. gathered: weights and gradients that are there whole while they are worked on.
    root_gradients: of embeddings and head, while they are added over the ranks; the activations are gone by then.
    """

    weights: int
    gradients: int
    optimizer: int
    mamba_activations: int
    attention_activations: int
    mlp_activations: int
    masks: int
    recomputed: int
    loss: int
    working: int
    gathered: int = 0
    root_gradients: int = 0

    @property
    def activations(self) -> int:
        kept = self.mamba_activations + self.attention_activations + self.mlp_activations
        return kept + self.masks + self.recomputed

    @property
    def total(self) -> int:
        step = self.activations + self.loss + self.working + self.gathered
        return self.weights + self.gradients + self.optimizer + max(step, self.root_gradients)

    def section(self) -> dict[str, str | int | float]:
        """Rows of a plan; what is there on ranks, or with recomputation alone is left out elsewhere."""
        elsewhere = {
            "attention_masks_bytes": self.masks,
            "recomputed_activations_bytes": self.recomputed,
            "gathered_bytes": self.gathered,
            "root_gradients_bytes": self.root_gradients,
        }
        return {
            "weights_bytes": self.weights,
            "gradients_bytes": self.gradients,
            "optimizer_bytes": self.optimizer,
            "mamba_activations_bytes": self.mamba_activations,
            "attention_activations_bytes": self.attention_activations,
            "mlp_activations_bytes": self.mlp_activations,
            "loss_bytes": self.loss,
            "working_bytes": self.working,
            **{name: value for name, value in elsewhere.items() if value},
            "total_bytes": self.total,
        }


def training_memory(
    config: HybridConfig,
    sequences: int,
    length: int,
    precision: str,
    *,
    recompute: Collection[str] = (),
    mesh: MeshShape | None = None,
    packed: bool = True,
    fused: bool = False,
) -> TrainingMemory:
    """Memory of one micro-batch of `sequences` x `length` tokens with float32 masters and AdamW.

    recompute: kinds of blocks. mesh: of the ranks; None: one process. packed: rows may hold several documents. fused: with
    the kernels of a GPU, which there are in bfloat16. UsageError if the mesh cannot hold the model, or cut the rows.
    """
    element = 4 if precision == "float32" else 2
    fused = fused and element == 2
    shape = mesh or MeshShape()
    piece = shape.piece(length, config.conv_kernel - 1 if MAMBA in config.pattern else 0)
    tokens = sequences * piece
    share = _share(config, shape.tensor)
    of_block = {
        letter: tokens * _kept_bytes(letter, share, element, shape.context, fused)
        for letter in set(config.pattern)
    }
    masked = shape.context > 1 or (packed and not fused)
    mask = sequences * piece * length if masked else 0
    input_bytes = tokens * 4 * config.hidden_size
    kept, recomputed, masks = dict.fromkeys(KINDS.values(), 0), 0, 0
    fp8 = _Fp8(config, shape.tensor) if precision in SCALINGS else None
    for number, letter in enumerate(config.pattern):
        size = of_block[letter] + (tokens * fp8.more_kept(number) if fp8 else 0)
        of_mask = mask * element if letter == ATTENTION else 0
        if _NAMES[letter] in recompute:
            kept[letter] += input_bytes
            recomputed = max(recomputed, size - input_bytes + of_mask)
        else:
            kept[letter] += size
            masks += of_mask
    if ATTENTION in config.pattern:
        masks += mask
    return TrainingMemory(
        **_parameter_bytes(config, element, recompute, mesh, fp8, fused),
        mamba_activations=kept[MAMBA],
        attention_activations=kept[ATTENTION],
        mlp_activations=kept[MLP],
        masks=masks,
        recomputed=recomputed,
        loss=tokens * config.hidden_size * (4 + 2 * element) + _head_bytes(config, tokens, fused),
        working=piece * _row_working_bytes(share) if MAMBA in config.pattern and not fused else 0,
    )


def _head_bytes(config: HybridConfig, tokens: int, fused: bool) -> int:
    """Of the head in the loss: the gradient of its weight, and chunks of logits."""
    gradient = 4 * config.vocab_size * config.hidden_size
    if fused:
        rows = min(tokens, chunk_rows(config.vocab_size, fused=True))
        return gradient + 2 * config.vocab_size * rows
    return gradient + LOSS_CHUNKS * 4 * config.vocab_size * chunk_rows(config.vocab_size)


def _parameter_bytes(
    config: HybridConfig,
    element: int,
    recompute: Collection[str],
    mesh: MeshShape | None,
    fp8: "_Fp8 | None",
    fused: bool,
) -> dict[str, int]:
    """Masters, gradients and moments in float32, and copies in the precision of the products."""
    if mesh is not None:
        held = holdings(config, mesh)
        return {
            "weights": 4 * held.held,
            "gradients": 4 * held.held,
            "optimizer": 8 * held.held,
            # Two blocks: the one that is worked on and the next; what is received, and the gradient that is sent.
            "gathered": 4 * held.root + held.block * (4 * element + 4) + (fp8.largest_block if fp8 else 0),
            # Weights, gradients, and the gradients as they are sent.
            "root_gradients": 3 * 4 * held.root,
        }
    counts = count_parameters(config)
    of_kind = {name: getattr(counts, name) for name in KINDS}
    again = [of_kind[name] // config.pattern.count(KINDS[name]) for name in recompute if of_kind[name]]
    copied = sum(of_kind[name] for name in KINDS if name not in recompute) + max(again, default=0)
    if fused:  # copies last a step (kernels/masters.py)
        copied = sum(of_kind.values())
    copies = 2 * (copied + counts.head) if element == 2 else 0
    if (
        fp8 and not fused
    ):  # as many bytes, by row and by column; those of blocks that are computed again stay, too
        copies += sum(size for kind, size in fp8.weights.items() if kind in recompute)
    return {
        "weights": 4 * counts.total + copies,
        "gradients": 4 * counts.total,
        "optimizer": 8 * counts.total,
    }


class _Fp8:
    """What FP8 changes. weights: bytes of the quantized weights by kind of block, in E4M3 by row and by column.
    largest_block: of the block that has most."""

    def __init__(self, config: HybridConfig, tensor_ranks: int) -> None:
        of_blocks: dict[int, int] = {}
        self.weights = dict.fromkeys(KINDS, 0)
        self._more: dict[int, float] = {}
        for layer in fp8_layers(config, tensor_ranks=tensor_ranks):
            size = 2 * layer.inputs * layer.outputs
            self.weights[_NAMES[config.pattern[layer.block]]] += size
            of_blocks[layer.block] = of_blocks.get(layer.block, 0) + size
            more = layer.inputs * (FP8_BYTES - _ELSE_KEPT[layer.name.rpartition(".")[2]])
            self._more[layer.block] = self._more.get(layer.block, 0.0) + more
        self.largest_block = max(of_blocks.values())

    def more_kept(self, number: int) -> int:
        """Bytes a token that a block keeps beyond what it keeps in bfloat16; less than nothing, mostly."""
        return round(self._more.get(number, 0.0))


def _share(config: HybridConfig, ranks: int) -> HybridConfig:
    """The shape of what one of so many tensor ranks computes."""
    names = ("num_attention_heads", "num_key_value_heads", "intermediate_size", "mamba_num_heads", "n_groups")
    return config.model_copy(update={name: getattr(config, name) // ranks for name in names})


def _kept_bytes(letter: str, share: HybridConfig, element: int, context: int, fused: bool) -> int:
    """Of a block of this kind, a token of a rank."""
    if letter == MAMBA and fused and context == 1:
        return _fused_mamba_bytes(share)
    if letter == MAMBA:
        return _mamba_bytes(share, element) + (_mamba_piece_bytes(share, element) if context > 1 else 0)
    if letter == ATTENTION:
        return _attention_bytes(share, element, context)
    return _fused_mlp_bytes(share) if fused else _mlp_bytes(share, element)


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


def _fused_mamba_bytes(config: HybridConfig) -> int:
    projected = 2 * config.in_proj_width
    time_steps = 2 * 4 * config.mamba_num_heads
    chunk_states = 2 * config.mamba_width * config.ssm_state_size // config.chunk_size
    scanned_and_gated = 2 * 2 * config.mamba_width
    return _block_bytes(config, 2) + projected + time_steps + chunk_states + scanned_and_gated


def _fused_mlp_bytes(config: HybridConfig) -> int:
    return _block_bytes(config, 2) + 2 * config.intermediate_size


def _mamba_piece_bytes(config: HybridConfig, element: int) -> int:
    """Of what enters a piece of a row: the convolution's inputs with the tail before them, the outputs of the entering state
    and what survives of it (model/parallel/scan.py)."""
    with_tail = config.conv_width * element
    carried = 4 * config.mamba_width
    survives = 5 * 4 * config.mamba_num_heads
    widened = 0 if element == 4 else 4 * config.n_groups * config.ssm_state_size
    return with_tail + carried + survives + widened


def _row_working_bytes(config: HybridConfig) -> int:
    """Per token of the one row that a Mamba block's backward pass works on, in float32 (kernels/scan.py, convolution.py)."""
    inputs_and_outputs = 7 * config.mamba_width + 4 * config.n_groups * config.ssm_state_size
    within_chunks = 2 * (config.mamba_num_heads + config.n_groups) * config.chunk_size
    between_chunks = 2 * config.mamba_width * config.ssm_state_size // config.chunk_size
    convolution = 3 * config.conv_width
    return 4 * (inputs_and_outputs + within_chunks + between_chunks + convolution)


def _attention_bytes(config: HybridConfig, element: int, context: int = 1) -> int:
    """Keys and values are those of the whole row, of which each of its ranks reads a piece."""
    queries = config.num_attention_heads * config.head_dim
    keys_values = 2 * config.num_key_value_heads * config.head_dim * context
    return (
        _block_bytes(config, element) + (2 * queries + keys_values) * element + 4 * config.num_attention_heads
    )


def _mlp_bytes(config: HybridConfig, element: int) -> int:
    rectified_and_squared = 2 * config.intermediate_size * element
    return _block_bytes(config, element) + rectified_and_squared
