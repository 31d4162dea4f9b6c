"""The rows of a run: packed text and chats in one blend, and that both models read them as the same tokens."""

from pathlib import Path

from model.config import HybridConfig
from model.errors import UsageError
from model.loading import read_config
from model.tokenizer import load_tokenizer
from stages.common.config import WeightedPath
from stages.common.data.blending import BlendedOrder
from stages.common.data.chat.run_rows import rows_of_run
from stages.common.data.packed_dataset import read_description
from stages.common.data.text_tokenizer import refuse_other_tokenizer, vocabulary_difference
from stages.common.stage import StageContext
from stages.common.training.batches import TrainingData
from stages.common.training.steps import StepShape
from stages.distill.config import DistillConfig


def open_data(config: DistillConfig, context: StageContext) -> TrainingData:
    """All rows of the run. Chats are packed into OUT.run in the student's tokens; their share is that of all their files."""
    paths = list(config.data)
    if config.chats:
        rows = rows_of_run(config.chats, config.model, config, context)
        paths.append(WeightedPath(path=rows, weight=sum(item.weight for item in config.chats)))
    return TrainingData(paths)


def row_order(config: DistillConfig, data: TrainingData, steps: StepShape) -> BlendedOrder:
    """The last blend of each dataset from beginning to end."""
    return data.order_of_blend(data.phases[-1], steps.total_sequences, config.seed)


def step_shape(config: DistillConfig) -> StepShape:
    return StepShape.of(
        config.tokens, config.batch_tokens, seq_len=config.seq_len, micro_batch=config.micro_batch
    )


def agreed_shapes(config: DistillConfig) -> tuple[HybridConfig, HybridConfig]:
    """The shapes of student and teacher. UsageError where teacher, student or data would speak of different tokens, or the
    packed rows have another length than the chats'.
    """
    student, teacher = read_config(config.model), read_config(config.teacher)
    load_tokenizer(config.model, student.vocab_size)  # refuses one with more tokens than the model has
    difference = vocabulary_difference(config.teacher, config.model)
    if difference is None and teacher.vocab_size != student.vocab_size:
        difference = (
            f"its vocabulary has {teacher.vocab_size} tokens, that of {config.model} {student.vocab_size}"
        )
    if difference:
        raise UsageError(
            f"teacher and student have different tokens: {difference}",
            where=str(config.teacher),
            remedy="give a teacher and a student of one tokenizer",
        )
    for path in (item.path for item in config.data):
        refuse_other_tokenizer(path, config.model)
        _refuse_other_length(path, config.seq_len)
    if config.top_k is not None and config.top_k >= student.vocab_size:
        raise UsageError(
            f"{config.top_k} tokens are the whole vocabulary of {student.vocab_size}",
            where="top_k",
            remedy="give a smaller --top-k, or leave it out",
        )
    return student, teacher


def _refuse_other_length(dataset: Path, seq_len: int) -> None:
    length = read_description(dataset).seq_len
    if length != seq_len:
        raise UsageError(
            f"its rows have {length} tokens, not {seq_len}",
            where=str(dataset),
            remedy=f"pass --seq-len {length}, or prepare the data again with --seq-len {seq_len}",
        )
