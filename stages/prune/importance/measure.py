"""Measuring a model's importance: widths in one pass over the samples, then blocks, one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from model.errors import NotFiniteError
from model.hybrid import HybridLM
from stages.common.stage import StageContext
from stages.common.training.batches import TrainingData
from stages.prune.importance.calibration import Calibration
from stages.prune.importance.layers import by_chance, layer_order, least_error
from stages.prune.importance.settings import ImportanceSettings
from stages.prune.importance.store import FILE, Importance, Origin, load, save
from stages.prune.importance.widths import WidthMeter, Widths


def measure(
    lm: HybridLM,
    data: TrainingData,
    settings: ImportanceSettings,
    *,
    deepest: int,
    keep: Mapping[str, int],
    model: str,
    datasets: Sequence[str],
    context: StageContext,
) -> Importance:
    """The importance of all widths, and of blocks until `deepest` remain with as many of each kind as `keep` says.

    model, datasets: content hashes. The result is saved as `importance.safetensors` in `context.run_dir`, and read from
    there where an earlier run has left it; an interrupted ranking of blocks goes on where it was.

    Raises:
        ArtifactError: fewer rows than samples.
        UsageError: `keep` asks for more blocks than `deepest`.
        NotFiniteError: the model computes NaN.
        InterruptedRunError: a signal came.
    """
    path = context.run_dir / FILE
    if path.exists():
        return load(path, lm.config, model=model)
    calibration = Calibration(data, settings.samples, settings.sample_batch, settings.calibration_seed)
    layers = layer_order(
        lm,
        calibration,
        min(settings.samples, settings.layer_samples or settings.samples),
        deepest=deepest,
        keep=keep,
        context=context,
        chosen=by_chance(settings.calibration_seed) if settings.block_ranking == "random" else least_error,
    )
    origin = Origin(
        model=model,
        data=tuple(datasets),
        seq_len=data.seq_len,
        settings={
            **settings.model_dump(mode="json", include=set(ImportanceSettings.model_fields)),
            "keep": dict(keep),
        },
    )
    importance = Importance(layers, measure_widths(lm, calibration, settings, context), origin)
    save(importance, path)
    return importance


def measure_widths(
    lm: HybridLM, calibration: Calibration, settings: ImportanceSettings, context: StageContext
) -> Widths:
    """One pass over all samples; a run that is interrupted begins it again."""
    samples = calibration.samples
    with (
        context.reporter.progress("width importance", total=calibration.steps(samples), unit="batch") as bar,
        WidthMeter(lm, settings) as meter,
    ):
        for batch in calibration.batches(samples):
            context.check_stop("the importance of widths is measured again")
            meter.read(batch.to(lm.device))
            bar.update(1)
    widths = meter.result()
    if not torch.isfinite(widths.hidden).all():
        raise NotFiniteError(
            "the model computes NaN or infinite values on the calibration data",
            remedy="check it with `nano2 verify`",
        )
    return widths
