"""What channels, neurons and heads are worth, from one forward pass over the calibration rows.

Each score is an aggregate (`aggregation.py`) of what a unit computes, after Minitron for hybrids (arXiv 2504.11409, section
2.1) and Nemotron Nano 2, section 4.1:

    embedding channel i   of LN(X)_i, summed over all norms of the model, the final one included
    FFN neuron i          of relu(X (W1_i)^T)^2, which the second linear reads (ModelOpt), or of X (W1_i)^T, the first
                          linear's output (the report)
    Mamba                 of s = LN(X) Wx^T by head and channel, Wx the part of in_proj that makes x
    attention head        of what o_proj reads; L2 over the head's channels

Pruned widths change what norms divide by, so the energy of each norm's channels is measured as well (`Widths`).

Shapes: B samples, T tokens, D hidden size, F MLP width, H Mamba heads of P channels, G groups, q attention heads of h
channels, L blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.hybrid import Block, HybridLM
from model.layers.attention import Attention
from model.layers.mamba2 import Mamba2
from model.layers.mlp import MLP
from model.layers.norm import RMSNorm
from stages.common.training.batches import Batch
from stages.prune.importance.aggregation import MeanSquare, Scores
from stages.prune.importance.settings import ImportanceSettings


@dataclass(frozen=True)
class Widths:
    """Scores and energies, float32 on the CPU; those of a block by its number.

    An energy is the mean square of a channel over tokens, each token's channels first divided by their root mean square
    (of a gated norm: within the group), so that it is a channel's share and loud tokens do not outvote the rest.
    """

    hidden: Tensor
    """[D]"""
    neurons: dict[int, Tensor]
    """[F]"""
    mamba: dict[int, Tensor]
    """[H, P]"""
    attention_heads: dict[int, Tensor]
    """[q]"""
    residual_energy: Tensor
    """[L + 1, D]: the input of each block's norm, then of the final norm."""
    gated_energy: dict[int, Tensor]
    """[H, P]: y * silu(z), the input of a Mamba block's norm."""


class WidthMeter:
    """Watches a model while it reads. Use as a context manager; it leaves no hooks behind."""

    def __init__(self, lm: HybridLM, settings: ImportanceSettings) -> None:
        def scores() -> Scores:
            return Scores(settings.sequence_aggregation, settings.batch_aggregation)

        blocks = list(lm.backbone.layers)
        self._lm, self._neuron_score = lm, settings.neuron_score
        self._norms = [(scores(), MeanSquare()) for _ in range(len(blocks) + 1)]
        self._mixers = [scores() for _ in blocks]
        self._gated = [MeanSquare() for _ in blocks]
        self._real_BT = torch.empty(0)
        self._hooks: list[Any] = []

    def __enter__(self) -> WidthMeter:
        blocks, norms = self._lm.backbone.layers, self._norms
        for block, norm, scores, gated in zip(blocks, norms[:-1], self._mixers, self._gated, strict=True):
            assert isinstance(block, Block)
            self._watch_norm(block.norm, *norm)
            mixer = block.mixer
            if isinstance(mixer, Mamba2):
                self._watch_mamba(mixer, scores, gated)
            elif isinstance(mixer, Attention):
                self._watch_attention(mixer, scores)
            else:
                self._watch_mlp(mixer, scores)
        self._watch_norm(self._lm.backbone.norm_f, *norms[-1])
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def read(self, batch: Batch) -> None:
        """Count the rows of a batch, which lies on the model's device."""
        self._real_BT = batch.document_ids_BT >= 0
        self._lm.hidden_states(batch.input_ids_BT, batch.document_ids_BT)

    def result(self) -> Widths:
        def of_kind(kind: type[nn.Module]) -> dict[int, Tensor]:
            return {number: self._mixers[number].result() for number in self._numbers(kind)}

        return Widths(
            hidden=torch.stack([scores.result() for scores, _ in self._norms]).sum(0),
            neurons=of_kind(MLP),
            mamba=of_kind(Mamba2),
            attention_heads={number: score_qh.norm(dim=1) for number, score_qh in of_kind(Attention).items()},
            residual_energy=torch.stack([energy.result() for _, energy in self._norms]),
            gated_energy={number: self._gated[number].result() for number in self._numbers(Mamba2)},
        )

    def _numbers(self, kind: type[nn.Module]) -> list[int]:
        """Numbers of the blocks with a mixer of this kind."""
        return [n for n, block in enumerate(self._lm.backbone.layers) if isinstance(block.mixer, kind)]

    def _watch_norm(self, norm: RMSNorm, scores: Scores, energy: MeanSquare) -> None:
        def count(args: tuple[Any, ...], out_BTD: Tensor) -> None:
            scores.add(out_BTD, self._real_BT)
            energy.add(_normalized(args[0]), self._real_BT)

        self._on_output(norm, count)

    def _watch_mamba(self, mixer: Mamba2, scores: Scores, energy: MeanSquare) -> None:
        heads, groups, width = mixer.heads, mixer.groups, mixer.heads * mixer.head_dim

        def count_x(_: tuple[Any, ...], projected_BTC: Tensor) -> None:
            scores.add(projected_BTC[..., width : 2 * width].unflatten(-1, (heads, -1)), self._real_BT)

        def count_gated(args: tuple[Any, ...], _: Tensor) -> None:
            gated_BTE = args[0].float() * nn.functional.silu(args[1].float())
            normal_BTGd = _normalized(gated_BTE.unflatten(-1, (groups, -1)))
            energy.add(normal_BTGd.flatten(2).unflatten(-1, (heads, -1)), self._real_BT)

        self._on_output(mixer.in_proj, count_x)
        self._on_output(mixer.norm, count_gated)

    def _watch_attention(self, mixer: Attention, scores: Scores) -> None:
        def count(args: tuple[Any, ...], _: Tensor) -> None:
            scores.add(args[0].unflatten(-1, (-1, mixer.head_dim)), self._real_BT)

        self._on_output(mixer.o_proj, count)

    def _watch_mlp(self, mixer: MLP, scores: Scores) -> None:
        def count_up(_: tuple[Any, ...], out_BTF: Tensor) -> None:
            scores.add(out_BTF, self._real_BT)

        def count_down(args: tuple[Any, ...], _: Tensor) -> None:
            scores.add(args[0], self._real_BT)

        if self._neuron_score == "preactivation":
            self._on_output(mixer.up_proj, count_up)
        else:
            self._on_output(mixer.down_proj, count_down)

    def _on_output(self, module: nn.Module, count: Callable[[tuple[Any, ...], Tensor], None]) -> None:
        self._hooks.append(module.register_forward_hook(lambda _, args, out: count(args, out)))


def _normalized(x: Tensor) -> Tensor:
    """x over the root mean square of its last axis, in float32; 0 where all of it is 0."""
    x = x.float()
    tiny = torch.finfo(x.dtype).tiny
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True).clamp(min=tiny))
