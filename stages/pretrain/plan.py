"""What a pretraining run will take."""

from stages.common.plan import Plan
from stages.common.training.batches import TrainingData
from stages.common.training.planning import training_plan
from stages.common.training.steps import StepShape
from stages.pretrain.config import PretrainConfig
from stages.pretrain.run import model_shape


def plan(config: PretrainConfig) -> Plan:
    data = TrainingData(config.data)
    steps = StepShape.of(
        config.tokens, config.batch_tokens, seq_len=data.seq_len, micro_batch=config.micro_batch
    )
    order = data.order(steps.total_sequences, config.seed, config.phase_boundaries)
    return training_plan(
        f"pretrain {config.preset}",
        model_shape(config, data),
        steps,
        config,
        data={f"{source} (times read)": round(epochs, 2) for source, epochs in order.epochs().items()},
        warnings=[]
        if data.validation_places(1)
        else ["no documents were held out: the run ends without a validation loss"],
    )
