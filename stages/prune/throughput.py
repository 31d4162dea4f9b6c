"""Tokens a second of a shape in decoding on this machine, with random weights: before anything is cut.

What is measured is remembered in a file of OUT.run, so that a run that continues compares with the same figures.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from model.artifact.staging import write_json
from model.config import HybridConfig
from model.errors import PlanRefusedError
from model.hybrid import HybridLM
from model.inference.generation import Generator, Request
from stages.prune.kept import Shape
from stages.prune.search.candidates import Candidate
from stages.prune.search.space import describe, name_of

PROMPT_TOKENS, NEW_TOKENS, ROUNDS = 64, 32, 5


class Speedups:
    """Shapes against the whole model, decoding `batch` sequences at a time; in bfloat16 on a GPU, in float32 elsewhere."""

    def __init__(self, file: Path, whole: HybridConfig, batch: int, device: torch.device) -> None:
        self._file, self._whole, self._batch, self._device = file, whole, batch, device
        self._known: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}

    def figures(self, candidate: Candidate) -> dict[str, float]:
        """`tok_per_s` of all sequences together, and `speedup`, its ratio to that of the whole model."""
        name = name_of(candidate.shape)
        if name not in self._known:
            self._known[name] = self._measured(candidate.applied(self._whole))
            write_json(self._file, self._known)
        return self._known[name]

    def fast_enough(
        self, candidates: Sequence[Candidate], least: float | None, count: int | None = None
    ) -> list[Candidate]:
        """The first `count` whose speedup is `least` or more. Where `count` is None, all have to be that fast.

        PlanRefusedError, naming the fastest of those that are not, if there are none or not all.
        """
        if least is None:
            return list(candidates[:count])
        fast: list[Candidate] = []
        for candidate in candidates:
            if self.figures(candidate)["speedup"] >= least:
                fast.append(candidate)
            if len(fast) == count:
                break
        if not fast or (count is None and len(fast) < len(candidates)):
            slow = [candidate for candidate in candidates if candidate not in fast]
            closest = max(slow, key=lambda candidate: self.figures(candidate)["speedup"])
            raise PlanRefusedError(
                f"{'no shape' if not fast else 'not every shape'} is {least:g} times as fast as the model; the closest "
                f"({describe(closest.shape, Shape.of(self._whole))}) is {self.figures(closest)['speedup']:.2f} times",
                where="--min-speedup",
                remedy="lower it, or give smaller widths or depths",
            )
        return fast

    def _measured(self, shape: HybridConfig) -> dict[str, float]:
        """Medians over rounds in which the model and the shape take turns: what else the machine does slows both down."""
        dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        whole, cut = (_random_model(config, self._device, dtype) for config in (self._whole, shape))
        for lm in (whole, cut):
            _decode(lm, self._batch)  # the first round warms up
        rounds = [(_decode(whole, self._batch), _decode(cut, self._batch)) for _ in range(ROUNDS)]
        return {
            "tok_per_s": median(fast for _, fast in rounds),
            "speedup": median(fast / slow for slow, fast in rounds),
        }


def _random_model(config: HybridConfig, device: torch.device, dtype: torch.dtype) -> HybridLM:
    """Made on the device and in the dtype: a large model would not fit in float32 first."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return HybridLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def _decode(lm: HybridLM, batch: int) -> float:
    generator = Generator(lm, max_rows=batch)
    prompt = [number % lm.config.vocab_size for number in range(PROMPT_TOKENS)]
    for _ in range(batch):
        generator.add(Request(prompt, max_tokens=NEW_TOKENS + 2))
    generator.step()  # reads the prompt, and takes two tokens
    started, tokens = _now(lm.device), 0
    while generator.busy:
        tokens += len(generator.step())
    return tokens / (_now(lm.device) - started)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
