"""What a long-context run will take."""

from model.config import HybridConfig
from model.counting import count_parameters
from model.loading import read_config
from stages.common.plan import Plan, PlanValue
from stages.common.preset import preset_shape, preset_warning
from stages.common.training.batches import TrainingData
from stages.common.training.planning import training_plan
from stages.common.training.steps import StepShape
from stages.extend_context.config import ExtendContextConfig
from stages.extend_context.pretraining import inherited


def plan(config: ExtendContextConfig) -> Plan:
    shape = preset_shape(config.model, config.preset)
    if shape and not all(item.path.exists() for item in config.data):
        return _without_data(config, shape)
    data = TrainingData(config.data)
    taken = inherited(config)
    steps = StepShape.of(
        config.tokens, taken.batch_tokens, seq_len=data.seq_len, micro_batch=config.micro_batch
    )
    order = data.order_of_blend(data.phases[-1], steps.total_sequences, config.seed)
    rows: dict[str, PlanValue] = {
        f"{source} (times read)": round(epochs, 2) for source, epochs in order.epochs().items()
    }
    rows |= {
        f"{source} (documents cut)": f"{cut} of {documents}"
        for source, (cut, documents) in data.cut_documents.items()
    }
    return training_plan(
        f"extend-context {config.model} to {data.seq_len}",
        shape or read_config(config.model),
        steps,
        config,
        data={"learning_rate": taken.learning_rate, **rows},
        warnings=[preset_warning(config.model, config.preset, "with the data that is there")]
        if shape
        else [],
        on_ranks=True,
    )


def _without_data(config: ExtendContextConfig, shape: HybridConfig) -> Plan:
    """Without --planned-seq-len it is not known how long the rows are, and so neither work nor memory."""
    if (seq_len := config.planned_seq_len) is not None:
        taken = inherited(config)
        return training_plan(
            f"extend-context {config.model} to {seq_len}",
            shape,
            StepShape.of(config.tokens, taken.batch_tokens, seq_len=seq_len, micro_batch=config.micro_batch),
            config,
            data={"learning_rate": taken.learning_rate},
            warnings=[preset_warning(config.model, config.preset, f"with rows of {seq_len} tokens")],
            on_ranks=True,
        )
    return Plan(
        title=f"extend-context {config.model}",
        sections={
            "Parameters": {"total": count_parameters(shape).total, "pattern": shape.pattern},
            "Work": {"tokens": config.tokens},
        },
        warnings=[
            preset_warning(config.model, config.preset, "without work and memory, as its data is not there"),
        ],
    )
