"""What `nano2 eval --plan` tells: the tasks with their documents, and the memory for model, states and activations."""

import torch
from lm_eval.api.group import Group

from model.config import HybridConfig
from model.counting import conv_state_bytes, count_parameters, kv_cache_bytes, ssm_state_bytes
from model.loading import DTYPES, read_config
from stages.common.plan import Plan, PlanValue
from stages.common.sizes import format_bytes
from stages.common.training.hardware import available_bytes, resolve_device
from stages.eval.config import EvalConfig
from stages.eval.tasks import plan_tasks

_LIVE_ACTIVATIONS = 4
"""Tensors of a block's inner width that a forward pass holds at a time."""


def plan(config: EvalConfig) -> Plan:
    """Loads the tasks: an unknown name or a damaged data file is found before the model is read."""
    tasks = [
        task
        for item in plan_tasks(config)
        for task in (item.get_all_tasks() if isinstance(item, Group) else [item])
    ]
    shape = read_config(config.model)
    device = resolve_device(config.device)
    memory = _memory(config, shape)
    available = available_bytes(device)
    refusals = []
    if memory["weights_bytes"] > available:
        refusals.append(
            f"the weights take {format_bytes(memory['weights_bytes'])} and {device.type} has "
            f"{format_bytes(available)}: set dtype to bfloat16, or use a machine with more memory"
        )
    documents: dict[str, PlanValue] = {
        task.task_name: min(len(task.eval_docs), config.limit or len(task.eval_docs)) for task in tasks
    }
    rounds = config.repeats * max(1, len(config.budgets))
    answers: dict[str, PlanValue] = {
        task.task_name: int(documents[task.task_name]) * rounds
        for task in tasks
        if task.OUTPUT_TYPE == "generate_until"
    }
    return Plan(
        title=f"eval {config.model} on {device.type}",
        sections={
            "Documents": documents,
            **({"Answers to generate": answers} if answers else {}),
            "Parameters": {"total": count_parameters(shape).total},
            "Memory": {**memory, "available_bytes": available},
        },
        peak_bytes=sum(memory.values()),
        refusals=refusals,
    )


def _memory(config: EvalConfig, shape: HybridConfig) -> dict[str, int]:
    """By kind. The states are those of a full batch of answers of the longest length."""
    element = torch.empty(0, dtype=DTYPES[config.dtype or "float32"]).element_size()
    length = config.max_length or shape.max_position_embeddings
    width = max(shape.in_proj_width, shape.intermediate_size)
    return {
        "weights_bytes": count_parameters(shape).total * element,
        "activations_bytes": _LIVE_ACTIVATIONS * config.batch_tokens * width * element,
        "kv_bytes": kv_cache_bytes(shape, length, config.batch_rows, element),
        "ssm_bytes": ssm_state_bytes(shape, config.batch_rows),
        "conv_bytes": conv_state_bytes(shape, config.batch_rows, element),
    }
