"""`nano2 dpo`: direct preference optimization on pairs (report, section 3.2)."""

import torch

from model.counting import count_parameters
from model.loading import load
from model.tokenizer import load_tokenizer
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.stage import StageContext, StageResult
from stages.common.training.hardware import resolve_device
from stages.common.training.loop import TrainingLoop
from stages.common.training.schedule import constant_after_warmup
from stages.common.training.session import prepare_model, write_model
from stages.dpo.config import DpoConfig
from stages.dpo.files import FilePairs
from stages.dpo.objective import DpoObjective
from stages.dpo.rounds import RoundPairs


def run(config: DpoConfig, context: StageContext) -> StageResult:
    device = resolve_device(config.device)
    context.device = str(device)
    lm = load(config.model, device=device, dtype="float32")
    load_tokenizer(config.model, lm.config.vocab_size)  # refuses one with more tokens than the model has
    tokenizer = ChatTokenizer.open(config.model)
    prepare_model(lm, config, context)
    torch.manual_seed(config.seed)

    pairs = (RoundPairs if config.prompts else FilePairs)(lm, tokenizer, config, context)
    loop = TrainingLoop(
        lm,
        pairs,
        DpoObjective.of(config),
        constant_after_warmup(config.learning_rate, config.warmup_steps),
        pairs.validate,
        pairs.shape,
        config,
        context,
    )
    final = loop.run()
    write_model(lm, config, context, tokenizer=config.model)
    return StageResult(
        metrics={
            "parameters": count_parameters(lm.config).total,
            "steps": loop.counters.step,
            "tokens": loop.counters.tokens,
            **pairs.metrics,
            **final,
        },
        rows=pairs.rows,
    )
