"""`nano2 dpo`: direct preference optimization on pairs (report, section 3.2)."""

import torch

from model.counting import count_parameters
from model.hybrid import HybridLM
from model.loading import load
from model.tokenizer import load_tokenizer
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.preferences.encoding import encode_answers
from stages.common.preferences.files import FilePairs
from stages.common.preferences.reference import reference_logprobs
from stages.common.stage import StageContext, StageResult
from stages.common.training.hardware import resolve_device
from stages.common.training.loop import TrainingLoop
from stages.common.training.schedule import constant_after_warmup
from stages.common.training.session import prepare_model, write_model
from stages.dpo.config import DpoConfig
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

    objective = DpoObjective.of(config)
    pairs = (
        RoundPairs(lm, tokenizer, config, context)
        if config.prompts
        else _of_files(lm, tokenizer, config, context)
    )
    loop = TrainingLoop(
        lm,
        pairs,
        objective,
        constant_after_warmup(config.learning_rate, config.warmup_steps),
        lambda trained, tokens: objective.measure(trained, pairs.held_out_batches(tokens)),
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
        rows=pairs.rows if isinstance(pairs, RoundPairs) else [],
    )


def _of_files(lm: HybridLM, tokenizer: ChatTokenizer, config: DpoConfig, context: StageContext) -> FilePairs:
    return FilePairs(
        config.data,
        tokenizer,
        encode_answers,
        config,
        context,
        epochs=config.epochs,
        seed=config.seed,
        micro_batch=config.micro_batch,
        reasoning=True,
        reference=lambda pairs: reference_logprobs(
            lm,
            pairs,
            config,
            pad_id=tokenizer.text.pad_id,
            micro_batch=config.micro_batch,
            reporter=context.reporter,
            check=lambda: context.check_stop("pairs are encoded anew"),
        ),
    )
