"""A training run from its model and data to a finished artifact: what every stage that trains does alike."""

from collections.abc import Callable
from pathlib import Path

import torch

from model.counting import count_parameters
from model.hybrid import HybridLM
from model.kernels import describe
from model.loading import save
from model.tokenizer import copy_tokenizer
from stages.common.data.blending import BlendedOrder
from stages.common.stage import StageContext, StageResult
from stages.common.training.batches import RowStream, TrainingData
from stages.common.training.loop import TrainingLoop
from stages.common.training.objectives import cross_entropy
from stages.common.training.settings import TrainingSettings
from stages.common.training.steps import StepShape
from stages.common.training.validation import HeldOut


def train_on_rows(
    lm: HybridLM,
    data: TrainingData,
    order: BlendedOrder,
    shape: StepShape,
    schedule: Callable[[int], float],
    settings: TrainingSettings,
    context: StageContext,
    *,
    tokenizer: Path,
) -> StageResult:
    """Next-token training on packed rows, masked where they have a loss mask; the artifact goes into `context.staging`.

    `lm` holds float32 masters on the run's device. `schedule` maps tokens seen, a step's own included, to its learning
    rate. The tokenizer files of the directory `tokenizer` are copied.
    """
    prepare_model(lm, settings, context)
    for source, epochs in order.epochs().items():
        context.reporter.log(f"source {source}: read {epochs:.2f} times")

    stream = RowStream(data, order, shape)
    validator = HeldOut(data, settings.micro_batch)
    loop = TrainingLoop(
        lm,
        stream,
        cross_entropy,
        lambda step: schedule(step * shape.tokens_per_step),
        validator,
        shape,
        settings,
        context,
    )
    final = loop.run()

    write_model(lm, settings, context, tokenizer=tokenizer)
    return StageResult(
        metrics={
            "parameters": count_parameters(lm.config).total,
            "steps": loop.counters.step,
            "tokens": shape.tokens,
            "tok_per_s": shape.tokens / loop.counters.seconds,
            **final,
        }
    )


def prepare_model(lm: HybridLM, settings: TrainingSettings, context: StageContext) -> None:
    """Set the precision of the products, and log which path each layer kind takes."""
    if settings.precision == "bfloat16":
        lm.compute_dtype = torch.bfloat16
    for kernel in describe(lm.device.type, settings.precision):
        context.reporter.log(f"{kernel.operation}: {kernel.path} ({kernel.reason})")


def write_model(lm: HybridLM, settings: TrainingSettings, context: StageContext, *, tokenizer: Path) -> None:
    """The trained weights with the tokenizer files of the directory `tokenizer`, into `context.staging`."""
    save(lm, context.staging, dtype=written_dtype(lm, settings))
    copy_tokenizer(tokenizer, context.staging)


def written_dtype(lm: HybridLM, settings: TrainingSettings) -> str:
    """The dtype of the written weights: as the settings say, by default float32 from a CPU and bfloat16 from a GPU."""
    return settings.dtype or ("bfloat16" if lm.device.type == "cuda" else "float32")
