"""Does this core compute what transformers computes, from the same files? In float32, where two right programs differ by
rounding alone.

Three questions. Do the logits of a full forward pass agree? Does decoding token by token agree with the full pass, in
each program? And where does a difference begin: every block of this core is also run on the very input that the same
block of transformers got, so that one wrong block shows as one wrong block, whatever came before it.

Shapes: T tokens, V vocabulary, D hidden size.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evals.recording import KIND_NAMES, mixer_output, named_layers, recorded_outputs, recorded_parts
from evals.transformers_peer import TransformersPeer
from model.config import MAMBA, UNCLAMPED_TIME_STEP_MIN, HybridConfig
from model.hybrid import HybridLM


@dataclass(frozen=True)
class LayerParity:
    """One layer in both programs.

    name: `embeddings`, `layers.3`, `norm_f`, `lm_head`. kind: `mamba`, `attention`, `mlp`; the name for the others.
    error: relative error ||ours - theirs|| / ||theirs|| of the layer given the same input (of a block: of its mixer).
    drift: relative error of its output (of a block: the residual stream), each program on its own from the tokens on.
    part: the first part of the layer that differs beyond the tolerance, if any does.
    """

    name: str
    kind: str
    error: float
    drift: float
    part: str = ""


@dataclass(frozen=True)
class LogitDifference:
    """Two runs on the same T tokens. KL in nats a token, of the second to the first."""

    cosine: float
    max_abs: float
    mean_kl: float
    top1_agreement: float
    largest: float
    """The largest absolute logit of the reference."""

    @classmethod
    def between(cls, logits_TV: Tensor, reference_TV: Tensor) -> "LogitDifference":
        """Computed in float64, so that the figures are not the rounding of their own arithmetic."""
        cosines, largest, divergences, agreeing = [], [], [], []
        for rows, reference in zip(logits_TV.split(32), reference_TV.split(32), strict=True):
            ours, theirs = rows.double(), reference.double()
            cosines.append(torch.cosine_similarity(ours, theirs, dim=1))
            largest.append((ours - theirs).abs().amax(1))
            log_p, log_q = theirs.log_softmax(1), ours.log_softmax(1)
            divergences.append((log_p.exp() * (log_p - log_q)).sum(1))
            agreeing.append((ours.argmax(1) == theirs.argmax(1)).double())
        return cls(
            cosine=torch.cat(cosines).mean().item(),
            max_abs=torch.cat(largest).max().item(),
            mean_kl=torch.cat(divergences).mean().clamp(min=0).item(),
            top1_agreement=torch.cat(agreeing).mean().item(),
            largest=reference_TV.abs().max().item(),
        )

    def within(self, tolerance: float) -> bool:
        """Is the difference rounding next to the largest logit (at least 1)? False for NaN."""
        return self.max_abs <= tolerance * max(1.0, self.largest)


@dataclass
class Parity:
    """What `compare` found. `their_decode` is None where transformers cannot decode; `clamp` where nothing is clamped."""

    tokens: int
    logits: LogitDifference
    decode: LogitDifference
    their_decode: LogitDifference | None
    clamp: LogitDifference | None
    layers: list[LayerParity]
    tolerance: float

    @property
    def first_divergence(self) -> LayerParity | None:
        """The first layer that, given the same input, gives another output."""
        return next((layer for layer in self.layers if not layer.error <= self.tolerance), None)


@torch.no_grad()
def compare(
    lm: HybridLM, peer: TransformersPeer, ids_1T: Tensor, *, tolerance: float = 1e-4, decode_steps: int = 32
) -> Parity:
    """Run both programs on one sequence of token ids [1, T] and compare.

    `tolerance` bounds the relative error of a layer, and the difference of logits relative to the largest (at least 1).
    The last `decode_steps` tokens, T - 1 at most, are also decoded one by one.
    """
    steps = min(decode_steps, ids_1T.shape[1] - 1)
    with recorded_outputs(named_layers(lm.backbone, lm.lm_head)) as outputs:
        ours = lm(ids_1T).logits
    with _layers_compared(lm, peer, outputs, tolerance) as layers:
        theirs = peer.logits(ids_1T)
    their_decoded = peer.decoded_logits(ids_1T, steps)
    clamp = None
    if peer.time_step_min > UNCLAMPED_TIME_STEP_MIN and MAMBA in lm.config.pattern:
        with peer.own_clamp():
            clamp = LogitDifference.between(peer.logits(ids_1T)[0], theirs[0])
    return Parity(
        tokens=ids_1T.shape[1],
        logits=LogitDifference.between(ours[0], theirs[0]),
        decode=LogitDifference.between(_decoded_logits(lm, ids_1T, steps)[0], ours[0, -steps:]),
        their_decode=(
            None if their_decoded is None else LogitDifference.between(their_decoded[0], theirs[0, -steps:])
        ),
        clamp=clamp,
        layers=layers,
        tolerance=tolerance,
    )


def _decoded_logits(lm: HybridLM, ids_1T: Tensor, steps: int) -> Tensor:
    state = lm.new_state()
    start = ids_1T.shape[1] - steps
    lm(ids_1T[:, :start], state=state)
    return torch.cat(
        [lm(ids_1T[:, t : t + 1], state=state).logits for t in range(start, ids_1T.shape[1])], dim=1
    )


@contextmanager
def _layers_compared(
    lm: HybridLM, peer: TransformersPeer, outputs: dict[str, Tensor], tolerance: float
) -> Iterator[list[LayerParity]]:
    """While open, a forward pass of the peer fills the yielded list, and keeps no more than one block's tensors.

    `outputs` holds what each layer of this core gave in a forward pass of its own.
    """
    layers: list[LayerParity] = []
    ours = named_layers(lm.backbone, lm.lm_head)

    def compare_layer(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            error, drift = (
                _relative_error(ours[name](inputs[0]), output),
                _relative_error(outputs[name], output),
            )
            layers.append(LayerParity(name, name, error, drift))

        return hook

    def compare_block(name: str, letter: str, their_parts: dict[str, Tensor]) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            with recorded_parts(ours[name], letter) as our_parts:
                ours[name](inputs[0], torch.float32)
            error = _relative_error(our_parts[mixer_output(letter)], their_parts[mixer_output(letter)])
            part = _first_differing_part(lm.config, our_parts, their_parts, tolerance)
            drift = _relative_error(outputs[name], output)
            layers.append(LayerParity(name, KIND_NAMES[letter], error, drift, part))
            their_parts.clear()

        return hook

    letters = {f"layers.{index}": letter for index, letter in enumerate(lm.config.pattern)}
    with ExitStack() as hooks:
        for name, layer in named_layers(peer.model.model, peer.model.lm_head).items():
            if letter := letters.get(name):
                their_parts = hooks.enter_context(recorded_parts(layer, letter))
                hook = compare_block(name, letter, their_parts)
            else:
                hook = compare_layer(name)
            hooks.enter_context(layer.register_forward_hook(hook))
        yield layers


def _first_differing_part(
    config: HybridConfig, ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float
) -> str:
    """In the order of computation; of an in_proj, with the rows that differ."""
    for part, tensor in ours.items():
        if _relative_error(tensor, theirs[part]) <= tolerance:
            continue
        if part != "in_proj":
            return part
        widths = [config.mamba_width, config.mamba_width, *2 * [config.n_groups * config.ssm_state_size]]
        widths.append(config.mamba_num_heads)
        slices = zip(
            ("z", "x", "B", "C", "dt"), tensor.split(widths, -1), theirs[part].split(widths, -1), strict=True
        )
        return (
            f"in_proj ({', '.join(name for name, a, b in slices if not _relative_error(a, b) <= tolerance)})"
        )
    return ""


def _relative_error(value: Tensor, reference: Tensor) -> float:
    """||value - reference|| / ||reference||, and 0 where both are 0."""
    size = torch.linalg.vector_norm(reference, dtype=torch.float64).item()
    distance = torch.linalg.vector_norm(value - reference, dtype=torch.float64).item()
    return distance / size if size else (math.inf if distance else 0.0)
