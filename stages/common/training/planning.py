"""What a training run will take: parameters, tokens, FLOPs, memory by kind, time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch

from model.config import HybridConfig
from model.counting import count_parameters, training_flops_per_token
from stages.common.plan import Plan, PlanValue
from stages.common.preset import preset_warning
from stages.common.sizes import format_bytes
from stages.common.training.hardware import available_bytes, matrix_rate, resolve_device
from stages.common.training.memory import training_memory
from stages.common.training.settings import TrainingSettings
from stages.common.training.steps import StepShape

TYPICAL_SHARE = 0.35
"""Share of the machine's matrix rate that a training step reaches, for the time estimate (docs/bench/cpu.json)."""


STEP_BYTES_PER_TOKEN = 40
"""Of a step's rows in the machine's memory: three int64 tensors, and the int32 columns that they are made of."""


def training_plan(
    title: str,
    shape: HybridConfig,
    steps: StepShape,
    settings: TrainingSettings,
    *,
    data: Mapping[str, PlanValue],
    warnings: Sequence[str] = (),
    beside: Mapping[str, int] = MappingProxyType({}),
) -> Plan:
    """The plan of a run of `steps` on a model of this shape.

    data: rows that tell of the data. beside: what else lies on the device, by name, in bytes.
    """
    device = resolve_device(settings.device)
    flops = steps.tokens * training_flops_per_token(shape, steps.seq_len)
    rate = matrix_rate(device, getattr(torch, settings.precision))
    memory = training_memory(shape, steps.micro_batch, steps.seq_len, settings.precision)
    available = available_bytes(device)
    return Plan(
        title=f"{title} on {device.type}",
        sections={
            "Parameters": _parameters(shape),
            "Work": {
                "tokens": steps.tokens,
                "steps": steps.steps,
                "tokens_per_step": steps.tokens_per_step,
                "row_tokens": steps.seq_len,
                "flops": flops,
                "matrix_flops_per_s": rate,
                "assumed_share_of_rate": TYPICAL_SHARE,
            },
            "Data": dict(data),
            "Memory": {
                **beside,
                **memory.section(),
                "total_bytes": memory.total + sum(beside.values()),
                "available_bytes": available,
            },
        },
        peak_bytes=memory.total + sum(beside.values()),
        seconds=flops / rate / TYPICAL_SHARE,
        refusals=_refusals(shape, steps, settings.precision, available, sum(beside.values())),
        warnings=list(warnings),
    )


def preset_plan(
    title: str,
    shape: HybridConfig,
    steps: StepShape,
    settings: TrainingSettings,
    model: Path,
    preset: str | None,
    *,
    tokens: int | None = None,
) -> Plan:
    """The plan of a run over so many tokens, where neither the model nor its tokenizer is there to count the data's.

    None: of one step alone.
    """
    count = 1 if tokens is None else max(1, round(tokens / steps.tokens_per_step))
    lack = (
        "and of one step alone: how much the data is, is counted in the model's tokens"
        if tokens is None
        else "and its data is taken to have the planned tokens"
    )
    warnings = [preset_warning(model, preset, lack)]
    return training_plan(title, shape, replace(steps, steps=count), settings, data={}, warnings=warnings)


def with_passes(planned: Plan, flops: Mapping[str, float]) -> Plan:
    """The plan with work besides training, by name, in its time."""
    rate = planned.sections["Work"]["matrix_flops_per_s"]
    assert isinstance(rate, int | float)
    assert planned.seconds is not None
    sections = planned.sections | {"Work": planned.sections["Work"] | dict(flops)}
    seconds = planned.seconds + sum(flops.values()) / rate / TYPICAL_SHARE
    return planned.model_copy(update={"sections": sections, "seconds": seconds})


def _parameters(shape: HybridConfig) -> dict[str, PlanValue]:
    counts = count_parameters(shape)
    return {
        "total": counts.total,
        "mamba": counts.mamba,
        "attention": counts.attention,
        "mlp": counts.mlp,
        "embedding": counts.embedding,
        "head": counts.head,
        "pattern": shape.pattern,
    }


def _refusals(
    shape: HybridConfig, steps: StepShape, precision: str, available: int, beside: int
) -> list[str]:
    def needed(micro_batch: int, precision: str = precision) -> int:
        return training_memory(shape, micro_batch, steps.seq_len, precision).total + beside

    if needed(steps.micro_batch) <= available:
        return _refused_rows(steps)
    lack = f"the step needs {format_bytes(needed(steps.micro_batch))}, {format_bytes(available)} are there"
    for micro_batch in range(steps.micro_batch - 1, 0, -1):
        if needed(micro_batch) <= available:
            return [f"{lack}; --micro-batch {micro_batch} would fit"]
    if precision == "float32" and needed(1, "bfloat16") <= available:
        return [f"{lack}; --micro-batch 1 --precision bfloat16 would fit"]
    return [f"{lack}; no --micro-batch would make it fit: choose a smaller model or shorter rows"]


def _refused_rows(steps: StepShape) -> list[str]:
    """A step's rows are read at once, into the memory of the machine and not of its device."""
    needed, available = steps.tokens_per_step * STEP_BYTES_PER_TOKEN, available_bytes(torch.device("cpu"))
    if needed <= available:
        return []
    return [
        f"the rows of a step take {format_bytes(needed)}, {format_bytes(available)} are there: lower batch_tokens"
    ]
