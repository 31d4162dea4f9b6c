"""What a bench of training steps will take: the memory of each of our points, and about how long it runs."""

import torch

from model.config import KINDS, HybridConfig
from model.counting import count_parameters, training_flops_per_token
from model.parallel.shape import MeshShape
from stages.bench.train.campaign import count_measurements
from stages.bench.train.config import TrainBenchConfig
from stages.bench.train.hf import has_flash
from stages.bench.train.points import Point, our_points, their_points
from stages.bench.train.rows import model_shape, several_documents, step_rows
from stages.common.plan import Plan
from stages.common.sizes import format_bytes
from stages.common.training.batches import Batch
from stages.common.training.hardware import available_bytes, matrix_rate, resolve_device
from stages.common.training.memory import training_memory
from stages.common.training.planning import TYPICAL_SHARE, expects_fused_kernels


def planned_bytes(shape: HybridConfig, point: Point, rows: Batch, device: torch.device) -> int | None:
    """Peak memory of one of our points by formula; None of a row in pieces, whose ranks would share it."""
    if point.pieces > 1:
        return None
    return training_memory(
        shape,
        point.micro_batch,
        rows.input_ids_BT.shape[1],
        point.precision,
        recompute=point.recompute,
        mesh=MeshShape() if point.sharded else None,
        packed=several_documents(rows),
        fused=expects_fused_kernels("auto", device),
    ).total


def plan(config: TrainBenchConfig) -> Plan:
    """Refused where none of our points fits. Of hf, which has no formula here, only the number of its points is known."""
    device, shape = resolve_device(config.device), model_shape(config)
    rows = step_rows(config, shape)
    tokens = rows.input_ids_BT
    seq_len = tokens.shape[1]
    ours = our_points(config)
    kinds = [kind for kind, letter in KINDS.items() if letter in shape.pattern]
    theirs = their_points(config, kinds, ("float32", "bfloat16")) if config.against else []
    measurements = count_measurements(config, ours, theirs, flash=has_flash(device.type))
    available = available_bytes(device)
    needed = {point: planned_bytes(shape, point, rows, device) or 0 for point in ours}
    flops = tokens.numel() * training_flops_per_token(shape, seq_len)
    rate = matrix_rate(device, getattr(torch, ours[0].activations))
    counts = count_parameters(shape)
    least = min(needed.values())
    return Plan(
        title=f"bench train {config.preset or config.model} on {device.type}",
        sections={
            "Parameters": {
                "total": counts.total,
                "without_input_embedding": counts.without_input_embedding,
                "pattern": shape.pattern,
            },
            "Work": {
                "tokens_per_step": tokens.numel(),
                "row_tokens": seq_len,
                "measurements_at_most": measurements,
                "flops_per_step": flops,
                "matrix_flops_per_s": rate,
                "assumed_share_of_rate": TYPICAL_SHARE,
            },
            "Memory": {"available_bytes": available},
        },
        rows=[
            {
                "config": point.config(),
                "micro_batch": point.micro_batch,
                "total_bytes": size,
                "fits": size <= available,
            }
            for point, size in needed.items()
        ],
        peak_bytes=max(needed.values()),
        seconds=measurements * (config.warmup + config.steps) * flops / rate / TYPICAL_SHARE,
        refusals=[]
        if least <= available
        else [
            f"the smallest point needs {format_bytes(least)}, {format_bytes(available)} are there: "
            "lower --micro-batch or --seq-len, or try --recompute mamba+mlp"
        ],
        warnings=["hf is taken to be as fast as this core, and may need more memory"] if theirs else [],
    )
