"""What a pretraining run will take: parameters, tokens, FLOPs, memory by kind, time."""

import torch

from model.config import HybridConfig
from model.counting import count_parameters, training_flops_per_token
from stages.common.plan import Plan
from stages.common.sizes import format_bytes
from stages.common.training.batches import TrainingData
from stages.common.training.hardware import available_bytes, matrix_rate, resolve_device
from stages.common.training.loop import StepShape
from stages.common.training.memory import training_memory
from stages.pretrain.config import PretrainConfig
from stages.pretrain.run import model_shape

TYPICAL_SHARE = 0.35
"""Share of the machine's matrix rate that a training step reaches, for the time estimate (docs/bench/cpu.json)."""


def plan(config: PretrainConfig) -> Plan:
    data = TrainingData(config.data)
    shape = model_shape(config, data)
    steps = StepShape.of(config, data.seq_len)
    device = resolve_device(config.device)
    order = data.order(steps.total_sequences, config.seed, config.phase_boundaries)

    tokens = steps.total_sequences * data.seq_len
    flops = tokens * training_flops_per_token(shape, data.seq_len)
    rate = matrix_rate(device, getattr(torch, config.precision))
    memory = training_memory(shape, steps.micro_batch, data.seq_len, config.precision)
    available = available_bytes(device)
    return Plan(
        title=f"pretrain {config.preset} on {device.type}",
        sections={
            "Parameters": _parameters(shape),
            "Work": {
                "tokens": tokens,
                "steps": steps.steps,
                "tokens_per_step": config.batch_tokens,
                "flops": flops,
                "matrix_flops_per_s": rate,
                "assumed_share_of_rate": TYPICAL_SHARE,
            },
            "Data": {f"{source} (times read)": round(epochs, 2) for source, epochs in order.epochs().items()},
            "Memory": {**memory.section(), "available_bytes": available},
        },
        peak_bytes=memory.total,
        seconds=flops / rate / TYPICAL_SHARE,
        refusals=_refusals(shape, config, data.seq_len, available),
        warnings=[]
        if data.validation
        else ["no documents were held out: the run ends without a validation loss"],
    )


def _parameters(shape: HybridConfig) -> dict[str, str | int | float]:
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


def _refusals(shape: HybridConfig, config: PretrainConfig, seq_len: int, available: int) -> list[str]:
    needed = training_memory(shape, config.micro_batch, seq_len, config.precision).total
    if needed <= available:
        return []
    lack = f"the step needs {format_bytes(needed)}, {format_bytes(available)} are there"
    for micro_batch in range(config.micro_batch - 1, 0, -1):
        if training_memory(shape, micro_batch, seq_len, config.precision).total <= available:
            return [f"{lack}; --micro-batch {micro_batch} would fit"]
    if config.precision == "float32" and training_memory(shape, 1, seq_len, "bfloat16").total <= available:
        return [f"{lack}; --micro-batch 1 --precision bfloat16 would fit"]
    return [f"{lack}; no --micro-batch would make it fit: choose a smaller --preset"]
