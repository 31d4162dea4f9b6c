"""A distillation from a teacher in memory, on packed rows: `distill` and the short one of `prune`."""

from collections.abc import Callable, Mapping

from model.hybrid import HybridLM
from stages.common.data.blending import BlendedOrder
from stages.common.distillation.objective import Distillation, WholeLogits, held_out_divergence
from stages.common.distillation.settings import DistillationSettings
from stages.common.stage import StageContext
from stages.common.training.batches import RowStream, TrainingData
from stages.common.training.loop import TrainingLoop
from stages.common.training.settings import TrainingSettings
from stages.common.training.steps import StepShape
from stages.common.training.validation import HeldOut


class HeldOutFromTeacher:
    """The validator: cross-entropy on the data's held-out rows, and the divergence from the teacher in nats a token.

    `validation_loss`, `validation_bits_per_byte` and `validation_kl` (at the temperature, and times its square);
    nothing where no rows were held out.
    """

    def __init__(
        self, teacher: HybridLM, data: TrainingData, micro_batch: int, *, temperature: float = 1.0
    ) -> None:
        self._lesson = WholeLogits(teacher, temperature)
        self._data, self._micro_batch = data, micro_batch
        self._cross_entropy = HeldOut(data, micro_batch)

    def __call__(self, student: HybridLM, tokens: int) -> dict[str, float]:
        batches = self._data.validation_batches(tokens, self._micro_batch)
        if not batches:
            return {}
        kl = held_out_divergence(student, self._lesson, batches)
        return {**self._cross_entropy(student, tokens), "validation_kl": kl}


def distill_on_rows(
    student: HybridLM,
    teacher: HybridLM,
    data: TrainingData,
    order: BlendedOrder,
    shape: StepShape,
    schedule: Callable[[int], float],
    settings: TrainingSettings,
    context: StageContext,
    *,
    distillation: DistillationSettings,
) -> Mapping[str, float]:
    """Train the student in place; the held-out figures at the end, as of `HeldOutFromTeacher`.

    `student` holds float32 masters, `teacher` is in evaluation mode; both lie on the run's device and have one vocabulary.
    `schedule` maps tokens seen, a step's own included, to its learning rate. State for resuming lies in `context.run_dir`,
    the log goes into `context.staging`: several distillations in one stage need a context each (`dataclasses.replace`).
    """
    loop = TrainingLoop(
        student,
        RowStream(data, order, shape),
        Distillation(WholeLogits(teacher, distillation.temperature), distillation),
        lambda step: schedule(step * shape.tokens_per_step),
        HeldOutFromTeacher(teacher, data, settings.micro_batch, temperature=distillation.temperature),
        shape,
        settings,
        context,
    )
    return loop.run()
