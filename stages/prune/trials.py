"""A trial: a shape is cut from the model, distilled for a while, and measured.

Everything lies in OUT.run, each part written aside and renamed, so that a run that continues does none of it again:

    trials/NAME/cut/               the model as it was cut
    trials/NAME/training/          where its distillation stands
    trials/NAME/distilled/         the model behind the distillation
    trials/NAME/held_out.json      its figures on held-out rows
    trials/NAME/evaluation.json    its figures in the evaluation
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from model.artifact.staging import staged_directory, write_text_atomic
from model.artifact.weights import CheckpointFiles, save_weights
from model.config import HybridConfig
from model.hybrid import HybridLM
from model.loading import DTYPES, load, match_tensors, save_config
from model.tokenizer import copy_tokenizer
from stages.common.distillation.objective import WholeLogits
from stages.common.distillation.session import Taught, distill_on_rows
from stages.common.stage import StageContext
from stages.common.training.batches import TrainingData
from stages.common.training.schedule import warmup_decay
from stages.common.training.session import prepare_model, write_model
from stages.common.training.steps import StepShape
from stages.common.training.validation import HeldOut
from stages.prune.benchmark import SCORE, Benchmark
from stages.prune.config import PruneConfig
from stages.prune.importance.store import Importance
from stages.prune.kept import Shape, choose
from stages.prune.search.space import describe, name_of
from stages.prune.slicing import sliced, sliced_config

_EMBEDDINGS = "backbone.embeddings.weight"


@dataclass(frozen=True)
class Trial:
    """What came of a shape: the directory of its model, and its figures. `score`: more is better."""

    shape: Shape
    model: Path
    figures: Mapping[str, float]
    score: float


@dataclass(frozen=True)
class Trials:
    """Makes trials of a model's shapes. `data` is None where only what is cut or evaluated is wanted."""

    config: PruneConfig
    context: StageContext
    whole: HybridConfig
    importance: Importance
    data: TrainingData | None
    device: torch.device
    benchmark: Benchmark | None

    def of(self, shape: Shape) -> Trial:
        """Cut, distilled and measured, as far as that was not done before.

        InterruptedRunError if a signal came, DivergedError if its distillation fails.
        """
        folder = self.context.run_dir / "trials" / name_of(shape)
        if not folder.exists():
            self.context.reporter.log(f"trying {describe(shape, Shape.of(self.whole))}")
            folder.mkdir(parents=True)
        model = self._distilled(shape, folder) if self.config.distill_tokens else self._cut(shape, folder)
        figures = _remembered(folder / "held_out.json", lambda: self._held_out(model))
        score = -figures.get("validation_loss", 0.0)
        if self.benchmark is not None:
            benchmark = self.benchmark
            evaluated = _remembered(folder / "evaluation.json", lambda: benchmark.measure(model))
            figures, score = {**figures, **evaluated}, evaluated[SCORE]
        return Trial(shape, model, figures, score if math.isfinite(score) else -math.inf)

    def held_out_of_model(self) -> Mapping[str, float]:
        """Of the whole model: `validation_loss` and the like, nothing where nothing was held out."""
        return _remembered(self.context.run_dir / "model.json", lambda: self._held_out(self.config.model))

    def _cut(self, shape: Shape, folder: Path) -> Path:
        cut = folder / "cut"
        if not cut.exists():
            self.context.check_stop("what was tried so far is kept")
            config = self.config
            keep = config.least.by_letter
            kept = choose(self.importance, self.whole, shape, keep=keep, mamba_ranking=config.mamba_ranking)
            files = CheckpointFiles(config.model)
            tensors = sliced(files, self.whole, kept, self.importance)
            dtype = DTYPES.get(config.dtype or "")
            with staged_directory(cut) as staging:
                save_weights(((name, tensor.to(dtype or tensor.dtype)) for name, tensor in tensors), staging)
                embedded_as = files.dtype(match_tensors(self.whole, files)[_EMBEDDINGS])
                save_config(sliced_config(self.whole, kept), staging, dtype or embedded_as)
                copy_tokenizer(config.model, staging)
        return cut

    def _distilled(self, shape: Shape, folder: Path) -> Path:
        distilled = folder / "distilled"
        if not distilled.exists():
            cut, training = self._cut(shape, folder), folder / "training"
            training.mkdir(exist_ok=True)
            with staged_directory(distilled) as staging:
                context = replace(self.context, _run_dir=training, _staging=staging)
                write_text_atomic(folder / "held_out.json", json.dumps(self._distill(cut, context)))
        for done in ("cut", "training"):
            shutil.rmtree(folder / done, ignore_errors=True)
        return distilled

    def _distill(self, cut: Path, context: StageContext) -> dict[str, float]:
        """Train on the last phase of the blend, write the model, and give its held-out figures."""
        assert self.data is not None
        config, data = self.config, self.data
        student = load(cut, self.device, "float32")
        prepare_model(student, config, context)
        torch.manual_seed(config.seed)
        steps = StepShape.of(
            config.distill_tokens,
            config.batch_tokens or config.micro_batch * data.seq_len,
            seq_len=data.seq_len,
            micro_batch=config.micro_batch,
        )
        figures = distill_on_rows(
            student,
            Taught(data, data, WholeLogits(self._teacher, config.temperature)),
            data.order_of_blend(data.phases[-1], steps.total_sequences, config.seed),
            steps,
            warmup_decay(config, steps.tokens),
            config,
            context,
            distillation=config,
        )
        write_model(student, config, context, tokenizer=config.model)
        return dict(figures)

    def _held_out(self, model: Path) -> dict[str, float]:
        if self.data is None or not self.data.validation_places(1):
            return {}
        return HeldOut(self.data, self.config.micro_batch)(load(model, self.device), 0)

    @cached_property
    def _teacher(self) -> HybridLM:
        """Held from the first distillation to the last; in bfloat16 on a GPU, as stored elsewhere."""
        return load(self.config.model, self.device, "bfloat16" if self.device.type == "cuda" else None)


def _remembered(file: Path, make: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """The figures in a file, which is written first where it is not there."""
    if not file.exists():
        write_text_atomic(file, json.dumps(dict(make())))  # a model cut too far may give NaN
    figures: dict[str, float] = json.loads(file.read_text())
    return figures
