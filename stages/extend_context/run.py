"""`nano2 extend-context`: longer rows at the floor of pretraining's schedule (report, phase LC)."""

from model.hybrid import HybridLM
from model.loading import load
from model.tokenizer import declare_length
from stages.common.data.text_tokenizer import refuse_other_tokenizer
from stages.common.stage import StageContext, StageResult
from stages.common.training.batches import TrainingData
from stages.common.training.hardware import resolve_device
from stages.common.training.schedule import constant
from stages.common.training.session import train_on_rows
from stages.common.training.steps import StepShape
from stages.extend_context.config import ExtendContextConfig
from stages.extend_context.pretraining import inherited


def run(config: ExtendContextConfig, context: StageContext) -> StageResult:
    device = resolve_device(config.device)
    context.device = str(device)
    data = TrainingData(config.data)
    refuse_other_tokenizer(data.directory, config.model)
    taken = inherited(config)
    steps = StepShape.of(
        config.tokens, taken.batch_tokens, seq_len=data.seq_len, micro_batch=config.micro_batch
    )
    order = data.order_of_blend(data.phases[-1], steps.total_sequences, config.seed)

    lm = load(config.model, device=device, dtype="float32")
    _lengthen(lm, data, context)
    context.reporter.log(
        f"constant learning rate {taken.learning_rate:g}, {taken.batch_tokens} tokens a step"
    )
    for source, (cut, documents) in data.cut_documents.items():
        context.reporter.log(
            f"source {source}: {cut} of {documents} documents were longer than a row and cut"
        )
    result = train_on_rows(
        lm, data, order, steps, constant(taken.learning_rate), config, context, tokenizer=config.model
    )
    declare_length(context.staging, lm.config.max_position_embeddings)
    result.metrics |= {
        "seq_len": data.seq_len,
        "cut_documents": sum(cut for cut, _ in data.cut_documents.values()),
        "documents": sum(documents for _, documents in data.cut_documents.values()),
    }
    return result


def _lengthen(lm: HybridLM, data: TrainingData, context: StageContext) -> None:
    """Declare the model for the rows' length. It keeps a longer one that it has."""
    declared = lm.config.max_position_embeddings
    if data.seq_len <= declared:
        context.reporter.warn(
            f"the rows have {data.seq_len} tokens, the model is declared for {declared} already"
        )
        return
    lm.config = lm.config.model_copy(update={"max_position_embeddings": data.seq_len})
    context.reporter.log(f"declared length: {declared} to {data.seq_len} tokens")
