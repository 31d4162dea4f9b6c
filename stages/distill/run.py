"""`nano2 distill`: a student learns the distributions of its teacher (report, section 4.3)."""

from collections.abc import Mapping

import torch

from model.artifact.hashing import content_hash
from model.counting import count_parameters
from model.hybrid import HybridLM
from model.loading import load
from stages.common.data.blending import BlendedOrder
from stages.common.data.chat.run_rows import keep_template
from stages.common.distillation.objective import Distillation
from stages.common.distillation.session import distill_on_rows
from stages.common.stage import StageContext, StageResult
from stages.common.training.batches import RowStream, TrainingData
from stages.common.training.hardware import resolve_device
from stages.common.training.loop import TrainingLoop
from stages.common.training.schedule import warmup_decay
from stages.common.training.session import prepare_model, write_model
from stages.common.training.steps import StepShape
from stages.distill.cache import Binding, LogitCache
from stages.distill.cached import CachedRows, CachedStream, HeldOutFromCache, KeptLogits
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

    cache = _filled_cache(config, data, order, context) if config.top_k else None
    student = load(config.model, device=context.device, dtype="float32")
    prepare_model(student, config, context)
    torch.manual_seed(config.seed)
    if cache is None:
        schedule = warmup_decay(config, steps.tokens)
        final = distill_on_rows(
            student,
            _teacher(config, context),
            data,
            order,
            steps,
            schedule,
            config,
            context,
            distillation=config,
        )
    else:
        final = _distill_on_cache(student, cache, data, order, steps, config, context)
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


def _distill_on_cache(
    student: HybridLM,
    cache: LogitCache,
    data: TrainingData,
    order: BlendedOrder,
    steps: StepShape,
    config: DistillConfig,
    context: StageContext,
) -> Mapping[str, float]:
    rows, lesson = CachedRows(data, cache), KeptLogits(config.temperature)
    schedule = warmup_decay(config, steps.tokens)
    loop = TrainingLoop(
        student,
        CachedStream(rows, RowStream(data, order, steps)),
        Distillation(lesson, config),
        lambda step: schedule(step * steps.tokens_per_step),
        HeldOutFromCache(rows, config.micro_batch, lesson),
        steps,
        config,
        context,
    )
    return loop.run()
