"""In which order blocks go: each time the one without which the logits change least.

At each step every remaining block j is left out in turn, and the block with the smallest

    MSE_j = mean over tokens and vocabulary of (logits_full - logits_without_j)^2

goes for good; logits_full are those of the whole model (Nemotron Nano 2, section 4.1). Logits are linear in the hidden
states h after the final norm, so with G = W^T W of the head W, summed over chunks of the vocabulary,

    |logits_full - logits_without_j|^2 = d^T G d,    d = h_full - h_without_j

to rounding, and no logits are made: a token costs D^2 products instead of V D. The blocks before j need not run again
when it is left out, so that a step costs half of running every candidate whole.

Shapes: B rows, T tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from model.artifact.staging import write_json
from model.errors import NotFiniteError
from model.hybrid import HybridLM
from model.kernels.documents import Documents
from model.seeds import seed64
from stages.common.stage import StageContext
from stages.common.training.batches import Batch
from stages.prune.importance.calibration import Calibration
from stages.prune.kept import check_keep, droppable

STATE_FILE = "layers.json"
_VOCABULARY_CHUNK = 8192


@dataclass
class _State:
    """Blocks gone so far, each with the MSE it left; of the step at work, how many batches were read and the sum of
    d^T G d of each candidate."""

    gone: list[tuple[int, float]] = field(default_factory=list)
    batches: int = 0
    tokens: int = 0
    errors: dict[int, float] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> _State:
        if not path.exists():
            return cls()
        raw = json.loads(path.read_text())
        return cls(
            gone=[(block, mse) for block, mse in raw["gone"]],
            batches=raw["batches"],
            tokens=raw["tokens"],
            errors={int(block): error for block, error in raw["errors"].items()},
        )

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))


Chooser = Callable[[Sequence[int], Mapping[int, float]], int]
"""Of some blocks, and the error that each leaves when it goes, the one that goes."""


def least_error(candidates: Sequence[int], errors: Mapping[int, float]) -> int:
    return min(candidates, key=lambda block: (errors[block], block))


def by_chance(seed: int) -> Chooser:
    """A control: whatever the errors are."""
    return lambda candidates, _: min(candidates, key=lambda block: seed64(f"block {seed} {block}"))


def layer_order(
    lm: HybridLM,
    calibration: Calibration,
    samples: int,
    *,
    deepest: int,
    keep: Mapping[str, int],
    context: StageContext,
    chosen: Chooser = least_error,
) -> list[tuple[int, float]]:
    """Blocks in the order in which they go until `deepest` remain, and the logit MSE once each is gone, too.

    keep: of each kind of block, by its letter, how many must remain. chosen: which candidate goes. The state is saved in
    `context.run_dir` after each block, and at the place where a signal interrupts.

    Raises:
        UsageError: `keep` asks for more blocks than `deepest`.
        NotFiniteError: the model computes NaN.
        InterruptedRunError: a signal came.
    """
    pattern = lm.config.pattern
    check_keep(pattern, deepest, keep)
    path = context.run_dir / STATE_FILE
    state = _State.load(path)
    drops = len(pattern) - deepest
    gram_DD = head_gram(lm.lm_head.weight)
    steps = calibration.steps(samples)
    with context.reporter.progress("layer importance", total=drops * steps, unit="batch") as bar:
        bar.update(len(state.gone) * steps + state.batches)
        while len(state.gone) < drops:
            gone = {block for block, _ in state.gone}
            candidates = droppable(pattern, gone, keep)
            for number, batch in enumerate(calibration.batches(samples)):
                if number < state.batches:
                    continue
                if context.stop:
                    state.save(path)
                context.check_stop(f"{len(state.gone)} of {drops} blocks are ranked")
                errors = removal_errors(lm, batch.to(lm.device), gone, candidates, gram_DD)
                for block, error in errors.items():
                    state.errors[block] = state.errors.get(block, 0.0) + error
                state.tokens += int((batch.document_ids_BT >= 0).sum())
                state.batches += 1
                bar.update(1, blocks=len(pattern) - len(gone))
            block = chosen(candidates, state.errors)
            mse = state.errors[block] / (state.tokens * lm.config.vocab_size)
            state = _State([*state.gone, (block, mse)])
            state.save(path)
    return state.gone


def head_gram(weight_VD: Tensor) -> Tensor:
    """[D, D] W^T W in float32 at least."""
    wide = torch.promote_types(weight_VD.dtype, torch.float32)
    size = weight_VD.shape[1]
    gram_DD = torch.zeros(size, size, dtype=wide, device=weight_VD.device)
    for chunk_vD in weight_VD.detach().split(_VOCABULARY_CHUNK):
        wide_vD = chunk_vD.to(wide)
        gram_DD.addmm_(wide_vD.T, wide_vD)
    return gram_DD


@torch.no_grad()
def removal_errors(
    lm: HybridLM, batch: Batch, gone: set[int], candidates: Sequence[int], gram_DD: Tensor
) -> dict[int, float]:
    """Sum over the batch's tokens of |logits_full - logits|^2, for the model without `gone` and each candidate."""
    layers = lm.backbone.layers
    documents = Documents.from_ids(batch.document_ids_BT, batch.input_ids_BT.shape)
    real_BT = batch.document_ids_BT >= 0

    def run(x_BTD: Tensor, blocks: Iterator[int] | Sequence[int]) -> Tensor:
        for block in blocks:
            x_BTD = layers[block](x_BTD, lm.activation_dtype, documents)
        return x_BTD

    def final(x_BTD: Tensor) -> Tensor:
        return lm.backbone.norm_f(x_BTD, gram_DD.dtype)[real_BT]

    x_BTD = lm.backbone.embeddings(batch.input_ids_BT)
    full_nD = final(run(x_BTD, range(len(layers))))
    remaining = [block for block in range(len(layers)) if block not in gone]
    errors: dict[int, float] = {}
    for place, block in enumerate(remaining):
        if block in candidates:
            d_nD = full_nD - final(run(x_BTD, remaining[place + 1 :]))
            errors[block] = float(((d_nD @ gram_DD) * d_nD).sum(dtype=torch.float64))
            if not errors[block] < float("inf"):
                raise NotFiniteError(
                    "computes NaN or infinite hidden states",
                    where=f"the model without block {block}",
                    remedy="check the model with `nano2 verify`",
                )
        x_BTD = run(x_BTD, [block])
    return errors
