"""A training run from its model and data to a finished artifact: what every stage that trains does alike."""

from collections.abc import Callable
from pathlib import Path

import torch

from model.config import KINDS
from model.counting import count_parameters
from model.hybrid import HybridLM
from model.kernels import choice
from model.loading import save
from model.parallel.shape import MeshShape
from model.precision.eligibility import describe
from model.precision.layers import use_fp8
from model.tokenizer import copy_tokenizer
from stages.common.allocator import give_back_freed_memory
from stages.common.data.blending import BlendedOrder
from stages.common.ranks import ranks
from stages.common.stage import StageContext, StageResult
from stages.common.training.batches import RowStream, TrainingData
from stages.common.training.loop import TrainingLoop
from stages.common.training.objectives import cross_entropy
from stages.common.training.settings import TrainingSettings
from stages.common.training.steps import StepShape
from stages.common.training.team import ManyRanks, OneProcess, Team
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
    team = prepare_model(lm, settings, context)
    for source, epochs in order.epochs().items():
        context.reporter.log(f"source {source}: read {epochs:.2f} times")

    stream = RowStream(data, order, shape)
    validator = HeldOut(data, settings.micro_batch, team)
    loop = TrainingLoop(
        lm,
        stream,
        cross_entropy,
        lambda step: schedule(step * shape.tokens_per_step),
        validator,
        shape,
        settings,
        context,
        team,
    )
    final = loop.run()

    write_model(lm, settings, context, tokenizer=tokenizer, team=team)
    return StageResult(
        metrics={
            "parameters": count_parameters(lm.config).total,
            "steps": loop.counters.step,
            "tokens": shape.tokens,
            "tok_per_s": shape.tokens / loop.counters.seconds,
            **final,
        }
    )


def prepare_model(lm: HybridLM, settings: TrainingSettings, context: StageContext) -> Team:
    """Set precision and recomputation, log which path each layer kind takes, and spread the model over the run's ranks."""
    if settings.activations == "bfloat16":
        lm.compute_dtype = torch.bfloat16
    lm.recompute = frozenset(KINDS[kind] for kind in settings.recompute)
    choice.use(settings.kernels, lm.device, lm.activation_dtype)
    for kernel in choice.describe(lm.device.type, lm.activation_dtype, lm.config):
        context.reporter.log(f"{kernel.operation}: {kernel.path} ({kernel.reason})")
    if settings.recompute or ranks() is not None:
        give_back_freed_memory()
    if ranks() is None:
        MeshShape.of(1, context=settings.context_parallel, tensor=settings.tensor_parallel)
        _multiply_in_fp8(lm, settings, context, sharded=False)
        return OneProcess()
    from model.parallel.mesh import Mesh

    mesh = Mesh.of(lm.device.type, context=settings.context_parallel, tensor=settings.tensor_parallel)
    mesh.spread(lm, lm.compute_dtype)
    context.reporter.log(mesh.describe())
    _multiply_in_fp8(lm, settings, context, sharded=True)
    return ManyRanks(mesh)


def _multiply_in_fp8(
    lm: HybridLM, settings: TrainingSettings, context: StageContext, *, sharded: bool
) -> None:
    if settings.fp8 is None:
        return
    by = use_fp8(lm, settings.fp8, tensor_ranks=settings.tensor_parallel, sharded=sharded)
    context.reporter.log(f"FP8 products: {by}")
    for layer, where in describe(lm.config, tensor_ranks=settings.tensor_parallel).items():
        context.reporter.log(f"{layer}: {where}")


def write_model(
    lm: HybridLM,
    settings: TrainingSettings,
    context: StageContext,
    *,
    tokenizer: Path,
    team: Team | None = None,
) -> None:
    """The trained weights with the tokenizer files of the directory `tokenizer`, into `context.staging`."""
    mesh = team.mesh if team else None
    save(
        lm,
        context.staging,
        dtype=written_dtype(lm, settings),
        mesh=mesh,
        max_shard_bytes=settings.shard_size,
    )
    copy_tokenizer(tokenizer, context.staging)


def written_dtype(lm: HybridLM, settings: TrainingSettings) -> str:
    """The dtype of the written weights: as the settings say, by default float32 from a CPU and bfloat16 from a GPU."""
    return settings.dtype or ("bfloat16" if lm.device.type == "cuda" else "float32")
