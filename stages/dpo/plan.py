"""What a run of dpo will take, from the first pairs of each file, or from the questions and the limits of answers."""

from evals.chat_lines import read_chat
from model.config import HybridConfig
from model.counting import conv_state_bytes, forward_flops_per_token, kv_cache_bytes, ssm_state_bytes
from model.loading import read_config
from model.tokenizer import load_tokenizer
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.sources import resolve_sources
from stages.common.plan import Plan, PlanValue
from stages.common.preferences.encoding import encode_answers
from stages.common.preferences.estimate import MEASURED, estimate_pairs, largest_step
from stages.common.preset import preset_shape, preset_warning
from stages.common.training.planned_mesh import on_each_rank, planned_mesh
from stages.common.training.planning import preset_plan, training_plan, with_passes
from stages.common.training.steps import StepShape
from stages.dpo.config import DpoConfig


def plan(config: DpoConfig) -> Plan:
    if planned := preset_shape(config.model, config.preset):
        return _of_preset(config, planned)
    shape = read_config(config.model)
    load_tokenizer(config.model, shape.vocab_size)
    tokenizer = ChatTokenizer.open(config.model)
    check_template(tokenizer)
    return _of_rounds(config, shape) if config.prompts else _of_files(config, shape, tokenizer)


def _of_preset(config: DpoConfig, shape: HybridConfig) -> Plan:
    if not config.prompts:
        step = largest_step(config, config.micro_batch)
        return preset_plan(f"dpo {config.model}", shape, step, config, config.model, config.preset)
    planned = _of_rounds(config, shape)
    planned.warnings.append(preset_warning(config.model, config.preset, "whose template has not read them"))
    return planned


def _of_files(config: DpoConfig, shape: HybridConfig, tokenizer: ChatTokenizer) -> Plan:
    estimate = estimate_pairs(config.data, tokenizer, encode_answers, config)
    steps = estimate.steps(config, config.epochs, config.micro_batch)
    planned = training_plan(
        f"dpo {config.model}",
        shape,
        steps,
        config,
        data=estimate.section,
        warnings=[f"tokens are estimated from the first {MEASURED} pairs of each source"],
    )
    flops = estimate.tokens * forward_flops_per_token(shape, config.seq_len)
    return with_passes(planned, {"reference_flops": flops})


def _of_rounds(config: DpoConfig, shape: HybridConfig) -> Plan:
    """At most: every answer as long as it may be, every step with as many pairs as it may have."""
    questions = sum(
        1
        for source in resolve_sources((path, 1.0) for path in config.prompts)
        for file in source.files
        for _ in read_chat(file)
    )
    asked = min(config.prompts_per_round or questions, questions)
    pairs = min(asked * min(config.pairs_per_prompt, config.samples // 2), config.batch_pairs)
    longest = config.seq_len // 2
    steps = StepShape(
        steps=config.rounds * config.steps_per_round,
        sequences=max(1, pairs),
        micro_batch=config.micro_batch,
        seq_len=config.seq_len,
    )
    sampled = config.rounds * asked * config.samples * min(config.max_tokens, longest)
    data: dict[str, PlanValue] = {
        "questions": questions,
        "questions_per_round": asked,
        "answers_per_round": asked * config.samples,
        "sampled_tokens": sampled,
    }
    planned = training_plan(
        f"dpo {config.model}",
        shape,
        steps,
        config,
        data=data,
        warnings=["the most that can be: answers as long as allowed, steps with all of their pairs"],
    )
    referred = config.rounds * asked * config.pairs_per_prompt * config.seq_len
    flops = forward_flops_per_token(shape, longest)
    planned = with_passes(planned, {"sampling_flops": sampled * flops, "reference_flops": referred * flops})
    element = 2 if config.precision == "bfloat16" else 4
    rows = min(config.rollout_rows, asked * config.samples)
    states = (
        kv_cache_bytes(shape, longest, rows, element)
        + ssm_state_bytes(shape, rows)
        + conv_state_bytes(shape, rows, element)
    )
    planned.sections["Memory"] |= on_each_rank({"rollout_states_bytes": states}, planned_mesh(config))
    return planned
