"""`nano2 grpo`: reinforcement learning with groups of rollouts from the engine (report, section 3.2)."""

from functools import partial

import torch

from model.hybrid import HybridLM
from model.inference.stopping import stop_token_ids
from model.loading import load
from model.tokenizer import load_tokenizer
from stages.common.rewards.rewards import Rewards
from stages.common.rewards.settings import GraderReward
from stages.common.stage import StageContext, StageResult
from stages.common.training.hardware import resolve_device
from stages.common.training.loop import TrainingLoop
from stages.common.training.session import prepare_model, write_model
from stages.grpo.config import GrpoConfig
from stages.grpo.held_out import HeldOutPrompts
from stages.grpo.policy import PolicyObjective
from stages.grpo.prompts import Prompts, read_prompts
from stages.grpo.sampling import Sampler
from stages.grpo.steps import batches_of, estimated_steps, largest_prompts, learning_rate
from stages.grpo.store import RolloutStore
from stages.grpo.stream import RolloutStream


def run(config: GrpoConfig, context: StageContext) -> StageResult:
    device = resolve_device(config.device)
    context.device = str(device)
    lm = load(config.model, device=device, dtype="float32")
    tokenizer = load_tokenizer(config.model, lm.config.vocab_size)
    stop_ids = stop_token_ids(config.model, lm.config, tokenizer, chat=True)
    check = partial(context.check_stop, "steps that are done are kept")
    read = partial(
        read_prompts,
        tokenizer=tokenizer,
        longest=config.seq_len,
        graded=any(isinstance(part, GraderReward) for part in config.rewards),
        reporter=context.reporter,
        check=check,
    )
    tasks = read((item.path, item.weight) for item in config.data)
    validation = read((path, 1.0) for path in config.validation) if config.validation else {}
    prompts = Prompts(tasks, largest_prompts(config), config.seed, config.thinking)

    torch.manual_seed(config.seed)
    prepare_model(lm, config, context)
    reference = _reference(config, lm) if config.kl else None
    store = RolloutStore(context.run_dir, config.updates)
    with Rewards(config.rewards, device=device, check=check) as rewards:
        held_out = HeldOutPrompts(
            [task for each, _ in validation.values() for task in each],
            tokenizer,
            stop_ids,
            rewards,
            config,
            check,
        )
        sampler = Sampler(lm, tokenizer, stop_ids, prompts, rewards, config, check)
        stream = RolloutStream(
            lm, reference, sampler, store, config, context.reporter, pad_id=tokenizer.pad_token_id or 0
        )
        loop = TrainingLoop(
            lm,
            stream,
            PolicyObjective(config.clip_low, config.clip_high, config.kl, config.temperature),
            learning_rate(config),
            held_out,
            estimated_steps(config),
            config,
            context,
        )
        final = loop.run()
    write_model(lm, config, context, tokenizer=config.model)
    batches = batches_of(config)
    store.write_shown(batches, context.staging / "rollouts.jsonl")
    last = stream.figures(config.steps - 1)
    return StageResult(
        metrics={
            "steps": config.steps,
            "prompts_asked": store.next_prompt(batches),
            "tokens": loop.counters.tokens,
            "tok_per_s": loop.counters.tokens / loop.counters.seconds,
            **{name: last[name] for name in ("reward", "length", "truncated", "equal_groups", "gap")},
            **final,
        }
    )


def _reference(config: GrpoConfig, lm: HybridLM) -> HybridLM:
    """The model as the run found it, in the precision of the policy."""
    reference = load(config.model, device=lm.device, dtype="float32").requires_grad_(False)
    reference.compute_dtype = lm.compute_dtype
    return reference
