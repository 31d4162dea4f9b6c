"""What every measurement is of, and what a step of either side says."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from model.config import KINDS, HybridConfig
from model.hybrid import HybridLM
from model.loading import load
from model.precision.eligibility import layer_table

OUTER = "outer blocks"
"""The kind of the blocks that have no FP8 products, where others are compared with and without them."""

_NAMES = {letter: kind for kind, letter in KINDS.items()}


@dataclass(frozen=True)
class Job:
    """What every measurement is of. model: where its weights lie; None: fresh ones of `shape` and `seed`. rows: of a step,
    as `rows.as_arrays` gives them. memory: most bytes that a measurement may take on a CPU. rates: FLOP/s of matrix products
    by precision. fp8: is it about FP8, too?"""

    shape: HybridConfig = field(repr=False)
    model: Path | None
    seed: int
    rows: tuple[np.ndarray, ...] = field(repr=False)
    device: str
    threads: int
    warmup: int
    steps: int
    memory: int
    rates: dict[str, float] = field(repr=False)
    fp8: bool = False

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def kinds(self) -> list[str]:
        """Of the blocks."""
        kinds = [_NAMES[letter] for letter in self.shape.pattern]
        if not self.fp8:
            return kinds
        eligible = {layer.block for layer in layer_table(self.shape) if layer.fp8}
        return [kind if number in eligible else OUTER for number, kind in enumerate(kinds)]

    def build(self) -> HybridLM:
        """In float32, on the device and drawn there, so that either side has the same weights."""
        if self.model is not None:
            return load(self.model, device=self.device, dtype=torch.float32)
        torch.manual_seed(self.seed)
        with self.torch_device:
            return HybridLM(self.shape)


@dataclass(frozen=True)
class Step:
    """Seconds, mean loss in nats, and norm of the gradient before it is clipped."""

    seconds: float
    loss: float
    gradient_norm: float
