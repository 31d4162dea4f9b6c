"""What an evaluation will take: its documents and answers, and the memory for model, states and activations."""

import torch
from lm_eval.api.task import Task

from model.config import HybridConfig
from model.counting import conv_state_bytes, count_parameters, kv_cache_bytes, ssm_state_bytes
from model.loading import DTYPES
from stages.common.evaluation.settings import EvaluationSettings
from stages.common.plan import PlanValue
from stages.common.sizes import format_bytes

_LIVE_ACTIVATIONS = 4
"""Tensors of a block's inner width that a forward pass holds at a time."""


def planned_work(settings: EvaluationSettings, tasks: list[Task]) -> dict[str, dict[str, PlanValue]]:
    """Sections of a plan: documents of each task, and answers of each that generates."""
    documents: dict[str, PlanValue] = {
        task.task_name: min(len(task.eval_docs), settings.limit or len(task.eval_docs)) for task in tasks
    }
    rounds = settings.repeats * max(1, len(settings.budgets))
    answers: dict[str, PlanValue] = {
        task.task_name: int(documents[task.task_name]) * rounds
        for task in tasks
        if task.OUTPUT_TYPE == "generate_until"
    }
    return {"Documents": documents, **({"Answers to generate": answers} if answers else {})}


def planned_memory(settings: EvaluationSettings, shape: HybridConfig, dtype: str) -> dict[str, int]:
    """Bytes by kind. The states are those of a full batch of answers of the longest length."""
    element = torch.empty(0, dtype=DTYPES[dtype]).element_size()
    length = settings.max_length or shape.max_position_embeddings
    width = max(shape.in_proj_width, shape.intermediate_size)
    return {
        "weights_bytes": count_parameters(shape).total * element,
        "activations_bytes": _LIVE_ACTIVATIONS * settings.batch_tokens * width * element,
        "kv_bytes": kv_cache_bytes(shape, length, settings.batch_rows, element),
        "ssm_bytes": ssm_state_bytes(shape, settings.batch_rows),
        "conv_bytes": conv_state_bytes(shape, settings.batch_rows, element),
    }


def weights_refusals(memory: dict[str, int], available: int, device: torch.device) -> list[str]:
    """A sentence if the weights alone do not fit."""
    if memory["weights_bytes"] <= available:
        return []
    return [
        f"the weights take {format_bytes(memory['weights_bytes'])} and {device.type} has "
        f"{format_bytes(available)}: set dtype to bfloat16, or use a machine with more memory"
    ]
