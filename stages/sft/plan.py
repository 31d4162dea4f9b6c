"""What a fine-tuning run will take, estimated from the first samples of each file."""

import math

from model.loading import read_config
from model.tokenizer import load_tokenizer
from stages.common.data.chat.estimate import MEASURED, estimate_chats
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.sources import resolve_sources
from stages.common.plan import Plan, PlanValue
from stages.common.preset import preset_shape
from stages.common.training.planning import preset_plan, training_plan
from stages.sft.config import SftConfig
from stages.sft.epochs import step_shape


def plan(config: SftConfig) -> Plan:
    title = f"sft {config.model}"
    if planned := preset_shape(config.model, config.preset):
        tokens = None if config.planned_tokens is None else math.ceil(config.planned_tokens * config.epochs)
        one = step_shape(config, 1)
        return preset_plan(
            title, planned, one, config, config.model, config.preset, tokens=tokens, on_ranks=True
        )
    shape = read_config(config.model)
    load_tokenizer(config.model, shape.vocab_size)  # refuses one with more tokens than the model has
    tokenizer = ChatTokenizer.open(config.model)
    sources = resolve_sources((item.path, item.weight) for item in config.data)
    data: dict[str, PlanValue] = {}
    rows_of_epoch = 0.0
    for source in sources:
        estimate = estimate_chats(source, tokenizer, config)
        rows_of_epoch += estimate.rows * source.weight
        data |= {
            f"{source.name} (samples)": estimate.samples,
            f"{source.name} (tokens, estimated)": estimate.tokens,
        }
    return training_plan(
        title,
        shape,
        step_shape(config, rows_of_epoch),
        config,
        data=data,
        warnings=[f"tokens are estimated from the first {MEASURED} samples of each source"],
        on_ranks=True,
    )
