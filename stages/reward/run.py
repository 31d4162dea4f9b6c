"""`nano2 reward`: a Bradley-Terry reward model on preference pairs (report, section 3.2)."""

import torch

from model.counting import count_parameters
from model.loading import load
from model.reward import ScoredLM
from model.tokenizer import copy_tokenizer, load_tokenizer
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.preferences.encoding import encode_scored
from stages.common.preferences.files import FilePairs
from stages.common.stage import StageContext, StageResult
from stages.common.training.hardware import resolve_device
from stages.common.training.loop import TrainingLoop
from stages.common.training.schedule import constant_after_warmup
from stages.common.training.session import prepare_model, written_dtype
from stages.reward.config import RewardConfig
from stages.reward.objective import measure, ranking_objective


def run(config: RewardConfig, context: StageContext) -> StageResult:
    device = resolve_device(config.device)
    context.device = str(device)
    lm = ScoredLM.of(load(config.model, device=device, dtype="float32"))
    load_tokenizer(config.model, lm.config.vocab_size)  # refuses one with more tokens than the model has
    prepare_model(lm, config, context)
    torch.manual_seed(config.seed)

    pairs = FilePairs(
        config.data,
        ChatTokenizer.open(config.model),
        encode_scored,
        config,
        context,
        epochs=config.epochs,
        seed=config.seed,
        micro_batch=config.micro_batch,
        reasoning=False,
    )
    loop = TrainingLoop(
        lm,
        pairs,
        ranking_objective,
        constant_after_warmup(config.learning_rate, config.warmup_steps),
        lambda scored, tokens: measure(scored, pairs.held_out_batches(tokens)),
        pairs.shape,
        config,
        context,
    )
    final = loop.run()
    lm.save(context.staging, written_dtype(lm, config))
    copy_tokenizer(config.model, context.staging)
    return StageResult(
        metrics={
            "parameters": count_parameters(lm.config).total,
            "steps": loop.counters.step,
            "tokens": loop.counters.tokens,
            **pairs.metrics,
            **final,
        }
    )
