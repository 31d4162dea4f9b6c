"""Our side: the training loop that every stage has, on the same rows in each step.

Kernels are chosen by `model.kernels`. Seconds, losses and norms are what the loop itself says of its steps.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch.distributed as dist

from model.hybrid import HybridLM
from model.warming import warm
from stages.bench.train.job import Job, Step
from stages.bench.train.pieces import cross_entropy_in_pieces
from stages.bench.train.points import Point
from stages.bench.train.rows import from_arrays
from stages.bench.train.stopwatch import Observer
from stages.common.config import WeightedPath
from stages.common.reporter import FieldValue, ProgressBar, QuietReporter
from stages.common.stage import StageContext, StopFlag
from stages.common.training.batches import Batch
from stages.common.training.loop import TrainingLoop
from stages.common.training.objectives import Loss, cross_entropy
from stages.common.training.session import prepare_model
from stages.common.training.settings import TrainingSettings
from stages.common.training.steps import StepShape
from stages.common.training.team import ManyRanks, OneProcess, Team

LEARNING_RATE = 1e-4
NEVER = 1e9
"""Seconds, or steps."""


def train(job: Job, point: Point, steps: int, observer: Observer) -> list[Step]:
    """So many optimizer steps of ours."""
    batch = from_arrays(job.rows)
    lm = job.build()
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
    reporter = _StepReporter(batch.input_ids_BT.numel(), observer)

    def objective(lm: HybridLM, micro: Batch) -> Loss:
        observer.read()
        loss = (
            cross_entropy_in_pieces(lm, micro, point.pieces) if point.pieces > 1 else cross_entropy(lm, micro)
        )
        observer.differentiate()
        return loss

    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        staging, run_dir = Path(folder, "staging"), Path(folder, "run")
        staging.mkdir()
        run_dir.mkdir()
        context = StageContext(reporter, StopFlag(), (), _staging=staging, _run_dir=run_dir)
        prepare_model(lm, settings, context)
        if point.sharded:  # the loop warms whole models alone
            warm(lm, point.micro_batch, seq_len)
        team = _ObservedTeam(stack.enter_context(_sharded(lm)) if point.sharded else OneProcess(), observer)
        TrainingLoop(
            lm,
            _SameRows(batch, observer),
            objective,
            lambda _step: LEARNING_RATE,
            lambda _lm, _tokens: {},
            StepShape(steps, sequences, point.micro_batch, seq_len),
            settings,
            context,
            cast(Team, team),
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


@contextmanager
def _sharded(lm: HybridLM) -> Iterator[Team]:
    """All that FSDP2 does, by one rank that shares with no other."""
    from model.parallel.mesh import Mesh

    backend = "cpu:gloo,cuda:nccl" if lm.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = Mesh.of(lm.device.type)
        mesh.spread(lm, lm.compute_dtype)
        yield ManyRanks(mesh)
    finally:
        dist.destroy_process_group()


class _ObservedTeam:
    """A team that says when the gradients are there, and keeps their norms."""

    def __init__(self, team: Team, observer: Observer) -> None:
        self._team, self._observer = team, observer
        self.norms: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._team, name)

    def clip_gradients(self, lm: HybridLM, most: float) -> float:
        self._observer.optimize()
        self.norms.append(self._team.clip_gradients(lm, most))
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
