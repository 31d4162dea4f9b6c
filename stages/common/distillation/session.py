"""A distillation on packed rows: those of `distill`, and the short ones of `prune`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic

from model.hybrid import HybridLM
from stages.common.data.blending import BlendedOrder
from stages.common.distillation.objective import Distillation, L, Lesson, held_out_divergence
from stages.common.distillation.settings import DistillationSettings
from stages.common.stage import StageContext
from stages.common.training.batches import Rows, RowStream, TrainingData
from stages.common.training.loop import TrainingLoop
from stages.common.training.settings import TrainingSettings
from stages.common.training.steps import StepShape
from stages.common.training.validation import HeldOut


@dataclass(frozen=True)
class Taught(Generic[L]):
    """Data, its rows as the lesson reads them, and the lesson."""

    data: TrainingData
    rows: Rows[L]
    lesson: Lesson[L]


@dataclass(frozen=True)
class HeldOutFromTeacher(Generic[L]):
    """The validator: cross-entropy on the data's held-out rows, and the lesson's divergence in nats a token.

    `validation_loss`, `validation_bits_per_byte` and the lesson's figure (at the temperature, and times its square);
    nothing where no rows were held out.
    """

    taught: Taught[L]
    micro_batch: int

    def __call__(self, student: HybridLM, tokens: int) -> dict[str, float]:
        data, size = self.taught.data, self.micro_batch
        places = data.validation_places(tokens)
        if not places:
            return {}
        batches = (
            self.taught.rows.rows(places[start : start + size]) for start in range(0, len(places), size)
        )
        divergence = held_out_divergence(student, self.taught.lesson, batches)
        return {**HeldOut(data, size)(student, tokens), self.taught.lesson.figure: divergence}


def distill_on_rows(
    student: HybridLM,
    taught: Taught[L],
    order: BlendedOrder,
    shape: StepShape,
    schedule: Callable[[int], float],
    settings: TrainingSettings,
    context: StageContext,
    *,
    distillation: DistillationSettings,
) -> Mapping[str, float]:
    """Train the student in place; the held-out figures at the end, as of `HeldOutFromTeacher`.

    `student` holds float32 masters on the run's device. `schedule` maps tokens seen, a step's own included, to its learning
    rate. State for resuming lies in `context.run_dir`, the log goes into `context.staging`: several distillations in one
    stage need a context each (`dataclasses.replace`).
    """
    loop = TrainingLoop(
        student,
        RowStream(taught.rows, order, shape),
        Distillation(taught.lesson, distillation),
        lambda step: schedule(step * shape.tokens_per_step),
        HeldOutFromTeacher(taught, settings.micro_batch),
        shape,
        settings,
        context,
    )
    return loop.run()
