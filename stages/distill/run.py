"""`nano2 distill`: a student learns the distributions of its teacher (report, section 4.3)."""

from typing import Any

import torch

from model.artifact.hashing import content_hash
from model.counting import count_parameters
from model.hybrid import HybridLM
from model.loading import load
from stages.common.data.blending import BlendedOrder
from stages.common.data.chat.run_rows import keep_template
from stages.common.distillation.objective import WholeLogits
from stages.common.distillation.session import Taught, distill_on_rows
from stages.common.stage import StageContext, StageResult
from stages.common.training.batches import TrainingData
from stages.common.training.hardware import resolve_device
from stages.common.training.schedule import warmup_decay
from stages.common.training.session import prepare_model, write_model
from stages.distill.cache import Binding, LogitCache
from stages.distill.cached import CachedRows, KeptLogits
from stages.distill.caching import fill_cache, rows_to_read
from stages.distill.config import DistillConfig
from stages.distill.data import open_data, row_order, step_shape


def run(config: DistillConfig, context: StageContext) -> StageResult:
    context.device = str(resolve_device(config.device))
    steps = step_shape(config)
    data = open_data(config, context)
    order = row_order(config, data, steps)
    for source, epochs in order.epochs().items():
        context.reporter.log(f"source {source}: read {epochs:.2f} times")

    taught = _taught(config, data, order, context)
    student = load(config.model, device=context.device, dtype="float32")
    prepare_model(student, config, context)
    torch.manual_seed(config.seed)
    schedule = warmup_decay(config, steps.tokens)
    final = distill_on_rows(student, taught, order, steps, schedule, config, context, distillation=config)
    write_model(student, config, context, tokenizer=config.model)
    if config.chats:
        keep_template(config.model, context.staging)
    return StageResult(
        metrics={
            "parameters": count_parameters(student.config).total,
            "steps": steps.steps,
            "tokens": steps.tokens,
            **final,
        }
    )


def teacher_dtype(config: DistillConfig, device: str) -> str:
    """Of the teacher's weights on a device of this type."""
    return config.teacher_dtype or ("float32" if device == "cpu" else "bfloat16")


def _taught(
    config: DistillConfig, data: TrainingData, order: BlendedOrder, context: StageContext
) -> Taught[Any]:
    """The data with its teacher in memory, or with what was kept of it."""
    if config.top_k is None:
        return Taught(data, data, WholeLogits(_teacher(config, context), config.temperature))
    cache = _filled_cache(config, data, order, context)
    return Taught(data, CachedRows(data, cache), KeptLogits(config.temperature))


def _teacher(config: DistillConfig, context: StageContext) -> HybridLM:
    return load(config.teacher, device=context.device, dtype=teacher_dtype(config, context.device))


def _filled_cache(
    config: DistillConfig, data: TrainingData, order: BlendedOrder, context: StageContext
) -> LogitCache:
    hashes = {item.path: item.content_hash for item in context.inputs}
    assert config.top_k is not None
    binding = Binding(
        teacher=hashes[config.teacher],
        teacher_dtype=teacher_dtype(config, context.device),
        temperature=config.temperature,
        top_k=config.top_k,
        seq_len=data.seq_len,
        sources={name: content_hash(directory) for name, directory in data.directories.items()},
    )
    cache = LogitCache(config.cache or context.run_dir / "teacher-logits", binding)
    fill_cache(cache, lambda: _teacher(config, context), data, rows_to_read(data, order), config, context)
    return cache
