"""What a run of reward will take, estimated from the first pairs of each file."""

from model.loading import read_config
from model.tokenizer import load_tokenizer
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.plan import Plan
from stages.common.preferences.encoding import encode_scored
from stages.common.preferences.estimate import MEASURED, estimate_pairs
from stages.common.training.planning import training_plan
from stages.reward.config import RewardConfig


def plan(config: RewardConfig) -> Plan:
    shape = read_config(config.model)
    load_tokenizer(config.model, shape.vocab_size)
    tokenizer = ChatTokenizer.open(config.model)
    check_template(tokenizer)
    estimate = estimate_pairs(config.data, tokenizer, encode_scored, config)
    return training_plan(
        f"reward {config.model}",
        shape,
        estimate.steps(config, config.epochs, config.micro_batch),
        config,
        data=estimate.section,
        warnings=[f"tokens are estimated from the first {MEASURED} pairs of each source"],
    )
