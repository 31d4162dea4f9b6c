"""The training step of either side, with the same weights, rows, optimizer settings and clipping.

Ours is the training loop that every stage has. Theirs is what transformers' own trainer does in a step, without
its bookkeeping. Our kernels are chosen by `model.kernels`; theirs by transformers, but for attention.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.config import KINDS, HybridConfig
from model.hybrid import HybridLM
from model.loading import load
from model.loss import IGNORED
from stages.bench.peer import transformers_model
from stages.bench.train.points import AUTOCAST, HALF_WEIGHTS, Point
from stages.bench.train.rows import from_arrays
from stages.bench.train.stopwatch import Observer
from stages.common.config import WeightedPath
from stages.common.reporter import FieldValue, ProgressBar, QuietReporter
from stages.common.stage import StageContext, StopFlag
from stages.common.training.batches import Batch
from stages.common.training.hardware import synchronize
from stages.common.training.loop import TrainingLoop
from stages.common.training.objectives import Loss, cross_entropy
from stages.common.training.optimizer import build_optimizer
from stages.common.training.session import prepare_model
from stages.common.training.settings import OptimizerSettings, TrainingSettings
from stages.common.training.steps import StepShape
from stages.common.training.team import OneProcess

LEARNING_RATE = 1e-4
NEVER = 1e9
"""Seconds, or steps."""
_NAMES = {letter: kind for kind, letter in KINDS.items()}


@dataclass(frozen=True)
class Job:
    """What every measurement is of. model: where its weights lie; None: fresh ones of `shape` and `seed`. rows: of a step,
    as `rows.as_arrays` gives them. memory: most bytes that a measurement may take on a CPU. rates: FLOP/s of matrix products
    by precision."""

    shape: HybridConfig = field(repr=False)
    model: Path | None
    seed: int
    rows: tuple[np.ndarray, ...] = field(repr=False)
    device: str
    threads: int
    warmup: int
    steps: int
    memory: int
    rates: dict[str, float] = field(repr=False)

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def kinds(self) -> list[str]:
        """Of the blocks."""
        return [_NAMES[letter] for letter in self.shape.pattern]

    def build(self) -> HybridLM:
        """In float32, on the CPU."""
        if self.model is not None:
            return load(self.model, dtype=torch.float32)
        torch.manual_seed(self.seed)
        return HybridLM(self.shape)


@dataclass(frozen=True)
class Step:
    """Seconds, mean loss in nats, and norm of the gradient before it is clipped."""

    seconds: float
    loss: float
    gradient_norm: float


def train(job: Job, point: Point, steps: int, observer: Observer) -> list[Step]:
    """So many optimizer steps of a side."""
    return (_train_nano2 if point.side == "nano2" else _train_hf)(job, point, steps, observer)


# ---- this core ----


def _train_nano2(job: Job, point: Point, steps: int, observer: Observer) -> list[Step]:
    batch = from_arrays(job.rows)
    lm = job.build().to(job.torch_device)
    observer.attach(lm.backbone.embeddings, list(lm.backbone.layers), job.kinds)
    settings = TrainingSettings.model_validate(
        {
            "data": [WeightedPath(path=Path("the rows of this bench"))],  # the loop reads its stream alone
            "micro_batch": point.micro_batch,
            "precision": point.precision,
            "recompute": point.recompute,
            "save_seconds": NEVER,
            "log_every": int(NEVER),
            "tensorboard": False,
        }
    )
    sequences, seq_len = batch.input_ids_BT.shape
    reporter, team = _StepReporter(batch.input_ids_BT.numel(), observer), _ObservedTeam(observer)

    def objective(lm: HybridLM, micro: Batch) -> Loss:
        observer.read()
        loss = cross_entropy(lm, micro)
        observer.differentiate()
        return loss

    with TemporaryDirectory() as folder:
        staging, run_dir = Path(folder, "staging"), Path(folder, "run")
        staging.mkdir()
        run_dir.mkdir()
        context = StageContext(reporter, StopFlag(), (), _staging=staging, _run_dir=run_dir)
        prepare_model(lm, settings, context)
        TrainingLoop(
            lm,
            _SameRows(batch, observer),
            objective,
            lambda _step: LEARNING_RATE,
            lambda _lm, _tokens: {},
            StepShape(steps, sequences, point.micro_batch, seq_len),
            settings,
            context,
            team,
        ).run()
    return [
        Step(seconds, loss, norm)
        for (seconds, loss), norm in zip(reporter.bar.steps, team.norms, strict=True)
    ]


class _SameRows:
    """The stream of a run: each step's rows are the same."""

    def __init__(self, batch: Batch, observer: Observer) -> None:
        self._batch, self._observer = batch, observer

    def batch(self, step: int) -> Batch:
        self._observer.begin(step)
        return self._batch

    def figures(self, step: int) -> dict[str, float]:  # noqa: ARG002
        return {}

    def describe(self, step: int, start: int, end: int) -> str:
        return f"step {step + 1}, rows {start} to {end - 1}"


class _ObservedTeam(OneProcess):
    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.norms: list[float] = []

    def clip_gradients(self, lm: HybridLM, most: float) -> float:
        self._observer.optimize()
        self.norms.append(super().clip_gradients(lm, most))
        return self.norms[-1]


class _StepReporter(QuietReporter):
    """Keeps what the loop says of each step."""

    def __init__(self, tokens: int, observer: Observer) -> None:
        super().__init__()
        self.bar = _StepBar(tokens, observer)

    @contextmanager
    def progress(self, title: str, total: int | None, unit: str = "") -> Iterator[ProgressBar]:  # noqa: ARG002
        yield self.bar


class _StepBar:
    """steps: seconds and loss of each."""

    def __init__(self, tokens: int, observer: Observer) -> None:
        self._tokens, self._observer = tokens, observer
        self.steps: list[tuple[float, float]] = []

    def update(self, advance: int = 1, **fields: FieldValue) -> None:
        if advance:
            self._observer.end()
            self.steps.append((self._tokens / float(fields["tok_per_s"]), float(fields["loss"])))


# ---- transformers ----


def _train_hf(job: Job, point: Point, steps: int, observer: Observer) -> list[Step]:
    device = job.torch_device
    model: Any = transformers_model(job.build(), point.attention)
    if point.precision == HALF_WEIGHTS:
        model.to(torch.bfloat16)
    model.to(device).train()
    if point.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    observer.attach(model.model.embeddings, list(model.model.layers), job.kinds)
    settings = OptimizerSettings()
    optimizer = build_optimizer(model, settings)
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE
    batch = from_arrays(job.rows)
    count = batch.count
    done = []
    for step in range(steps):
        started = time.monotonic()
        observer.begin(step)
        total = 0.0
        for start in range(0, len(batch.input_ids_BT), point.micro_batch):
            micro = batch.rows(start, start + point.micro_batch).to(device)
            observer.read()
            with _autocast(point, device):
                loss = model(
                    micro.input_ids_BT,
                    labels=_unshifted(micro.labels_BT),
                    num_items_in_batch=count,
                    use_cache=False,
                ).loss
            total += float(loss.detach())
            observer.differentiate()
            loss.backward()
        observer.optimize()
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
        optimizer.step()
        optimizer.zero_grad()
        synchronize(device)
        seconds = time.monotonic() - started
        observer.end()
        done.append(Step(seconds, total, norm))
    return done


def _autocast(point: Point, device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if point.precision == AUTOCAST else nullcontext()


def _unshifted(labels_BT: Tensor) -> Tensor:
    """Labels as transformers takes them: it moves them itself."""
    moved_BT = labels_BT.roll(1, dims=1)
    moved_BT[:, 0] = IGNORED
    return moved_BT
