"""Where the time of a step goes: forward and backward pass by kind of block, and the optimizer.

Either side calls an observer at the same places; between two of them lies the work of one kind. In the forward pass it ends
with a block's output, in the backward pass with the gradient of its input. On a GPU such a place is an event among the
kernels, for which nobody waits before the step has ended.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stages.common.training.hardware import synchronize

FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"
EMBEDDING, LOSS = "embedding", "loss"
"""The loss: final norm, head and cross-entropy. The optimizer: clipping, AdamW and zero_grad."""

Times = dict[tuple[str, str], float]
"""Seconds by phase and kind."""

Mark = float | torch.cuda.Event
"""A place in time: of the processor, or among the work of a GPU."""


class Observer:
    """Looks at nothing: what steps that are timed have."""

    def attach(self, embedding: nn.Module, blocks: Sequence[nn.Module], kinds: Sequence[str]) -> None:
        """Of a model, before its first step. kinds: of the blocks."""

    def begin(self, step: int) -> None:
        """A step, counted from 0, begins."""

    def read(self) -> None:
        """A micro-batch's forward pass begins."""

    def differentiate(self) -> None:
        """It has ended with the loss; the backward pass begins."""

    def optimize(self) -> None:
        """All gradients are there."""

    def end(self) -> None:
        """The step has ended."""


class Stopwatch(Observer):
    """Times the steps from number `first` to `first + count` - 1, and sums them up in `times`."""

    def __init__(self, device: torch.device, first: int, count: int) -> None:
        self.device, self.steps = device, range(first, first + count)
        self.times: Times = defaultdict(float)
        self._on = self._forward = self._backward = False
        self._last: Mark = 0.0
        self._stretches: list[tuple[tuple[str, str], Mark, Mark]] = []

    def attach(self, embedding: nn.Module, blocks: Sequence[nn.Module], kinds: Sequence[str]) -> None:
        of_modules = [EMBEDDING, *kinds]
        for module, kind, follows in zip([embedding, *blocks], of_modules, [*kinds, LOSS], strict=True):
            module.register_forward_hook(
                lambda _module, _args, output, kind=kind, follows=follows: self._passed(kind, follows, output)
            )

    def begin(self, step: int) -> None:
        self._on, self._backward = step in self.steps, False
        self._restart()

    def read(self) -> None:
        if self._backward:
            self._charge(BACKWARD, EMBEDDING)
        self._restart()  # what lies before a step's first pass is no part of it
        self._forward, self._backward = True, False

    def differentiate(self) -> None:
        self._charge(FORWARD, LOSS)
        self._forward, self._backward = False, True

    def optimize(self) -> None:
        self._charge(BACKWARD, EMBEDDING)

    def end(self) -> None:
        self._charge(OPTIMIZER, OPTIMIZER)
        self._on = False
        synchronize(self.device)
        for part, start, end in self._stretches:
            self.times[part] += _seconds(start, end)
        self._stretches.clear()

    def _passed(self, kind: str, follows: str, output: Tensor) -> None:
        """A block was read; in the backward pass, what follows it has its gradient when its output has."""
        if not (self._on and self._forward):  # a block that is computed again belongs to its backward pass
            return
        self._charge(FORWARD, kind)
        output.register_hook(lambda _gradient: self._charge(BACKWARD, follows))

    def _restart(self) -> None:
        if self._on:
            self._last = self._now()

    def _charge(self, phase: str, kind: str) -> None:
        if self._on:
            before, self._last = self._last, self._now()
            self._stretches.append(((phase, kind), before, self._last))

    def _now(self) -> Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _seconds(start: Mark, end: Mark) -> float:
    if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        return 1e-3 * float(start.elapsed_time(end))
    assert isinstance(start, float)
    assert isinstance(end, float)
    return end - start


class Profiler(Observer):
    """A torch.profiler of the step number `step`."""

    def __init__(self, device: torch.device, step: int) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self.profile = torch.profiler.profile(activities=activities)
        self._step, self._on = step, False

    def begin(self, step: int) -> None:
        if step == self._step:
            with _quiet():
                self.profile.start()
            self._on = True

    def end(self) -> None:
        if self._on:
            with _quiet():
                self.profile.stop()
            self._on = False


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's profiler says on stderr, past Python, when it begins and ends."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
