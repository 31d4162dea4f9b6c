"""The measurements. Each function is one, meant for a fresh process (`isolation.run_isolated`)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels.matmul import linear
from stages.bench.cpu.sides import build_decoder, build_trainer, random_ids
from stages.bench.cpu.sweep import PROMPT_TOKENS, DecodeSetting, TrainSetting
from stages.bench.process import peak_rss, set_up, timed

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
    set_up(threads)
    before = peak_rss()
    trainer = build_trainer(setting)
    loss, norm = trainer.step()
    seconds = [timed(trainer.step) for _ in range(steps)]
    return TrainMeasurement(seconds, peak_rss() - before, float(loss), float(norm))


def measure_decoding(
    setting: DecodeSetting, new_tokens: int, repeats: int, threads: int
) -> DecodeMeasurement:
    """One short untimed run, then `repeats` times a prompt and `new_tokens` more."""
    set_up(threads)
    decode = build_decoder(setting)
    prompt_1T = random_ids(1, PROMPT_TOKENS)
    decode(prompt_1T, WARM_UP_TOKENS)
    outputs: list[Tensor] = []
    seconds = [timed(lambda: outputs.append(decode(prompt_1T, new_tokens))) for _ in range(repeats)]
    return DecodeMeasurement(seconds, outputs[-1][0].tolist())


def measure_matmul(precision: str, repeats: int, threads: int) -> dict[str, float]:
    """FLOP/s by 'library rows x inputs x outputs': of torch.mm and of our linear layers' road, the best of `repeats`."""
    set_up(threads)
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
            fastest = min(timed(product) for _ in range(repeats))
            rates[f"{name} {rows}x{inputs}x{outputs}"] = 2.0 * rows * inputs * outputs / fastest
    return rates
