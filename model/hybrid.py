"""The hybrid language model: one mixer a block, x + mixer(RMSNorm(x)), nothing else.

Parameter names are those of a NemotronH checkpoint on disk (`backbone.layers.{i}.mixer.in_proj.weight`, `lm_head.weight`),
so a state dict is a checkpoint.

Precision: parameters, and so the residual stream, may be float32 while the blocks compute in `compute_dtype` (float32
masters, bfloat16 products); by default blocks compute in the parameters' dtype. Norms, dt, A, the scan, the SSM state and
the logits are float32 at least, always.

Shapes: B batch, T tokens, D hidden size, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.config import ATTENTION, MAMBA, HybridConfig
from model.errors import UsageError
from model.inference.state import InferenceState, KeyValueCache, MambaState, Places
from model.kernels import choice
from model.kernels.documents import Documents
from model.kernels.normalization import add
from model.layers.attention import Attention
from model.layers.linear import Linear
from model.layers.mamba2 import Mamba2
from model.layers.mlp import MLP
from model.layers.norm import RMSNorm
from model.parallel.context import Context, RowPiece
from model.parallel.tensor import TensorRanks


@dataclass(frozen=True)
class HybridOutput:
    """`logits` [B, T, V], float32 (float64 in a float64 model)."""

    logits: Tensor


class Block(nn.Module):
    """A pre-norm residual block around one mixer."""

    def __init__(self, config: HybridConfig, letter: str) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mixer: Mamba2 | Attention | MLP
        self.tensor_ranks: TensorRanks | None = None
        """The ranks of which each holds a part of the mixer; None: it is whole."""
        if letter == MAMBA:
            self.mixer = Mamba2(config)
        elif letter == ATTENTION:
            self.mixer = Attention(config)
        else:
            self.mixer = MLP(config)

    def forward(
        self,
        x_BTD: Tensor,
        compute_dtype: torch.dtype,
        documents: Documents | None = None,
        state: MambaState | KeyValueCache | None = None,
        places: Places | None = None,
        piece: RowPiece | None = None,
    ) -> Tensor:
        stepped = (
            self._step(x_BTD, state, places) if x_BTD.shape[1] == 1 and x_BTD.dtype == compute_dtype else None
        )
        if stepped is not None:
            return stepped
        if torch.is_grad_enabled() and choice.fused(x_BTD, compute_dtype):
            x_BTD, normal_BTD = self.norm.residual(x_BTD, compute_dtype)
        else:
            normal_BTD = self.norm(x_BTD, compute_dtype)
        if self.tensor_ranks is None:
            return add(x_BTD, self._mix(normal_BTD, documents, state, places, piece))
        shared_BTD = self.tensor_ranks.copy_in(normal_BTD)
        return add(x_BTD, self.tensor_ranks.add_out(self._mix(shared_BTD, documents, state, places, piece)))

    def _mix(
        self,
        normal_BTD: Tensor,
        documents: Documents | None,
        state: MambaState | KeyValueCache | None,
        places: Places | None,
        piece: RowPiece | None,
    ) -> Tensor:
        if isinstance(self.mixer, Mamba2):
            assert not isinstance(state, KeyValueCache)
            return self.mixer(normal_BTD, documents, state, places, piece)
        if isinstance(self.mixer, Attention):
            assert not isinstance(state, MambaState)
            return self.mixer(normal_BTD, documents, state, places, piece)
        return self.mixer(normal_BTD)

    def _step(
        self, x_B1D: Tensor, state: MambaState | KeyValueCache | None, places: Places | None
    ) -> Tensor | None:
        """One token of each row in one compiled call; None where this block or device has none for the case."""
        if isinstance(self.mixer, Mamba2) and isinstance(state, MambaState):
            return self.mixer.block_step(x_B1D, self.norm, state)
        if isinstance(self.mixer, Attention) and isinstance(state, KeyValueCache) and places is not None:
            return self.mixer.block_step(x_B1D, self.norm, state, places)
        if isinstance(self.mixer, MLP):
            return self.mixer.block_step(x_B1D, self.norm)
        return None


class Backbone(nn.Module):
    """Embedding, blocks and final norm."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, letter) for letter in config.pattern)
        self.norm_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)


class HybridLM(nn.Module):
    """A hybrid Mamba-2/attention language model. Fresh parameters are drawn as `model.initialization` says."""

    def __init__(self, config: HybridConfig, *, initialize: bool = True) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.compute_dtype: torch.dtype | None = None
        """dtype of the blocks' matrix products; None: that of the parameters."""
        self.context: Context | None = None
        """The ranks that hold a row together; None: each row is whole."""
        self.recompute: frozenset[str] = frozenset()
        """Letters of the blocks whose activations are not kept for the backward pass, but computed again in it."""
        if initialize:
            from model.initialization import initialize as draw

            draw(self)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def activation_dtype(self) -> torch.dtype:
        return self.compute_dtype or self.lm_head.weight.dtype

    def new_state(self, batch: int = 1) -> InferenceState:
        """An empty inference state for `batch` sequences, on this model's device."""
        return InferenceState.empty(self.config, batch, dtype=self.activation_dtype, device=self.device)

    def hidden_states(
        self,
        input_ids_BT: Tensor,
        document_ids_BT: Tensor | None = None,
        state: InferenceState | None = None,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """[B, T, D] after the final norm, in the activation dtype: what `lm_head` reads.

        `document_ids_BT` marks packed documents, which never see each other. `state` continues the sequences it holds
        and is updated in place; documents cannot be packed then. `counts`, with a state: only the first `counts[b]` tokens
        of row b, one or more, are its own; what fills it up is not remembered, and its hidden states mean nothing.

        With a `context` the tokens are this rank's piece of every row, and all its ranks call this together.
        """
        if document_ids_BT is not None and state is not None:
            raise UsageError(
                "document ids and an inference state were given together",
                remedy="read packed documents without a state, or one sequence a row with one",
            )
        documents, piece = None, None
        if self.context is not None and state is None:
            piece = self.context.piece(input_ids_BT.shape, document_ids_BT, input_ids_BT.device)
        elif document_ids_BT is not None:
            documents = Documents.from_ids(document_ids_BT, input_ids_BT.shape)
        blocks: list[MambaState | KeyValueCache | None] = [None] * len(self.backbone.layers)
        places = None
        if state is not None:
            blocks, places = state.blocks, state.places(input_ids_BT.shape[1], input_ids_BT.device, counts)
        x_BTD = self.backbone.embeddings(input_ids_BT)
        recompute = self.recompute if torch.is_grad_enabled() and state is None else frozenset()
        for letter, layer, block_state in zip(self.config.pattern, self.backbone.layers, blocks, strict=True):
            read: Callable[..., Tensor] = layer
            if letter in recompute:
                # Nothing in a block is drawn at random. Ranks recompute in one order: that of their blocks, backwards.
                read = partial(checkpoint, layer, use_reentrant=False, preserve_rng_state=False)
            x_BTD = read(x_BTD, self.activation_dtype, documents, block_state, places, piece)
        if state is not None and places is not None:
            state.advance(places.counts)
        return self.backbone.norm_f(x_BTD, self.activation_dtype)

    def forward(
        self, input_ids_BT: Tensor, document_ids_BT: Tensor | None = None, state: InferenceState | None = None
    ) -> HybridOutput:
        """Logits of every position. See `hidden_states` for the arguments."""
        hidden_BTD = self.hidden_states(input_ids_BT, document_ids_BT, state)
        return HybridOutput(self.logits(hidden_BTD))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V] in float32 (float64 in a float64 model)."""
        logits = self.lm_head(hidden)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
