"""What a pretraining run will take."""

from collections.abc import Sequence

from model.config import HybridConfig
from stages.common.plan import Plan, PlanValue
from stages.common.preset import missing_rows_warning
from stages.common.training.batches import TrainingData
from stages.common.training.planning import training_plan
from stages.common.training.steps import StepShape
from stages.pretrain.config import PretrainConfig
from stages.pretrain.run import model_shape


def plan(config: PretrainConfig) -> Plan:
    if config.planned_seq_len is not None and not all(item.path.exists() for item in config.data):
        shape = HybridConfig.preset(config.preset, **config.shape)
        return _planned(
            config, shape, config.planned_seq_len, {}, [missing_rows_warning(config.planned_seq_len)]
        )
    data = TrainingData(config.data)
    order = data.order(_steps(config, data.seq_len).total_sequences, config.seed, config.phase_boundaries)
    return _planned(
        config,
        model_shape(config, data),
        data.seq_len,
        {f"{source} (times read)": round(epochs, 2) for source, epochs in order.epochs().items()},
        []
        if data.validation_places(1)
        else ["no documents were held out: the run ends without a validation loss"],
    )


def _planned(
    config: PretrainConfig,
    shape: HybridConfig,
    seq_len: int,
    data: dict[str, PlanValue],
    warnings: Sequence[str],
) -> Plan:
    steps = _steps(config, seq_len)
    return training_plan(
        f"pretrain {config.preset}", shape, steps, config, data=data, warnings=warnings, on_ranks=True
    )


def _steps(config: PretrainConfig, seq_len: int) -> StepShape:
    return StepShape.of(config.tokens, config.batch_tokens, seq_len=seq_len, micro_batch=config.micro_batch)
