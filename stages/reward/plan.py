"""What a run of reward will take, estimated from the first pairs of each file."""

import math

from model.loading import read_config
from model.tokenizer import load_tokenizer
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.plan import Plan
from stages.common.preferences.encoding import encode_scored
from stages.common.preferences.estimate import MEASURED, estimate_pairs, largest_step
from stages.common.preset import preset_shape
from stages.common.training.planning import preset_plan, training_plan
from stages.reward.config import RewardConfig


def plan(config: RewardConfig) -> Plan:
    title = f"reward {config.model}"
    if planned := preset_shape(config.model, config.preset):
        step = largest_step(config, config.micro_batch)
        tokens = None if config.planned_tokens is None else math.ceil(config.planned_tokens * config.epochs)
        return preset_plan(title, planned, step, config, config.model, config.preset, tokens=tokens)
    shape = read_config(config.model)
    load_tokenizer(config.model, shape.vocab_size)
    tokenizer = ChatTokenizer.open(config.model)
    check_template(tokenizer)
    estimate = estimate_pairs(config.data, tokenizer, encode_scored, config)
    return training_plan(
        title,
        shape,
        estimate.steps(config, config.epochs, config.micro_batch),
        config,
        data=estimate.section,
        warnings=[f"tokens are estimated from the first {MEASURED} pairs of each source"],
    )
