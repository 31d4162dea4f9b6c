"""The measurements. Each function is one, meant for a fresh process (`isolation.run_isolated`)."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels.matmul import linear
from stages.bench.cpu.sides import build_decoder, build_trainer, random_ids
from stages.bench.cpu.sweep import PROMPT_TOKENS, DecodeSetting, TrainSetting
from stages.common.allocator import keep_freed_memory

WARM_UP_TOKENS = 8
MATMUL_SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 1024, 1024), (4096, 256, 4096))
"""Rows, inputs, outputs: square ones, and those of a training step."""


@dataclass(frozen=True)
class TrainMeasurement:
    """Seconds of each timed step; peak bytes over what the process held before the model was built; loss and gradient norm
    of the first step."""

    seconds: list[float]
    peak_bytes: int
    loss: float
    gradient_norm: float


@dataclass(frozen=True)
class DecodeMeasurement:
    """Seconds of each run, prompt included, and the tokens of the last."""

    seconds: list[float]
    tokens: list[int]


def measure_training(setting: TrainSetting, steps: int, threads: int) -> TrainMeasurement:
    """One untimed training step, then `steps` timed ones."""
    _set_up(threads)
    before = _peak_rss()
    trainer = build_trainer(setting)
    loss, norm = trainer.step()
    seconds = [_timed(trainer.step) for _ in range(steps)]
    return TrainMeasurement(seconds, _peak_rss() - before, float(loss), float(norm))


def measure_decoding(
    setting: DecodeSetting, new_tokens: int, repeats: int, threads: int
) -> DecodeMeasurement:
    """One short untimed run, then `repeats` times a prompt and `new_tokens` more."""
    _set_up(threads)
    decode = build_decoder(setting)
    prompt_1T = random_ids(1, PROMPT_TOKENS)
    decode(prompt_1T, WARM_UP_TOKENS)
    outputs: list[Tensor] = []
    seconds = [_timed(lambda: outputs.append(decode(prompt_1T, new_tokens))) for _ in range(repeats)]
    return DecodeMeasurement(seconds, outputs[-1][0].tolist())


def measure_matmul(precision: str, repeats: int, threads: int) -> dict[str, float]:
    """FLOP/s by 'library rows x inputs x outputs': of torch.mm and of our linear layers' road, the best of `repeats`."""
    _set_up(threads)
    dtype = getattr(torch, precision)
    rates = {}
    for rows, inputs, outputs in MATMUL_SHAPES:
        x = torch.randn(rows, inputs).to(dtype)
        weight = torch.randn(outputs, inputs).to(dtype)
        roads: dict[str, Callable[[], Tensor]] = {
            "torch.mm": lambda x=x, weight=weight: torch.mm(x, weight.t()),  # type: ignore[misc]
            "linear": lambda x=x, weight=weight: linear(x, weight),  # type: ignore[misc]
        }
        for name, product in roads.items():
            product()
            fastest = min(_timed(product) for _ in range(repeats))
            rates[f"{name} {rows}x{inputs}x{outputs}"] = 2.0 * rows * inputs * outputs / fastest
    return rates


def _set_up(threads: int) -> None:
    """What every nano2 command does to its process (stages/common/harness.py), for either side alike."""
    torch.set_num_threads(threads)
    keep_freed_memory()


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak_rss() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
