"""What a GRPO run will take: generation and training apart, estimated from the first prompts of each file."""

from itertools import islice
from statistics import fmean

import torch

from evals.chat_lines import parse_sample
from evals.episodes.play import Task
from evals.episodes.tokens import prompt_ids
from model.config import HybridConfig
from model.counting import (
    conv_state_bytes,
    count_parameters,
    forward_flops_per_token,
    kv_cache_bytes,
    ssm_state_bytes,
)
from model.errors import ArtifactError
from model.loading import read_config
from model.text_lines import json_lines
from model.tokenizer import load_tokenizer
from stages.common.data.sources import resolve_sources
from stages.common.plan import Plan
from stages.common.preset import preset_shape, preset_warning
from stages.common.rewards.settings import ModelReward
from stages.common.sizes import format_bytes
from stages.common.training.hardware import available_bytes, matrix_rate, resolve_device
from stages.common.training.planned_mesh import on_each_rank, planned_mesh
from stages.common.training.planning import TYPICAL_SHARE, training_plan
from stages.grpo.config import GrpoConfig
from stages.grpo.steps import batches_of, estimated_steps, largest_prompts

_WITHOUT_PROMPTS = "with prompts as long as fit, and a reward model of the same shape where that is not there"

MEASURED = 200
"""Prompts of a source that are encoded; the rest is taken to be like them."""

DECODING_SHARE = 0.1
"""Share of the matrix rate that decoding of some dozens of rows reaches on a CPU (docs/grpo.md)."""


def plan(config: GrpoConfig) -> Plan:
    """The plan of the run if every episode generates all the tokens that it may."""
    planned = preset_shape(config.model, config.preset)
    shape = planned or read_config(config.model)
    device = resolve_device(config.device)
    prompts, prompt_tokens = _longest(config) if planned else _measure(config, shape)
    episode_tokens = min(config.seq_len, round(prompt_tokens) + config.max_tokens)
    generated = episode_tokens - round(prompt_tokens)
    plan = training_plan(
        f"grpo {config.model}",
        shape,
        estimated_steps(config, episode_tokens),
        config,
        data={
            "prompts": prompts,
            "tokens_per_prompt": prompt_tokens,
            "prompts_per_batch": config.prompts,
            "episodes_per_batch": config.prompts * config.samples,
            "batches_of_rollouts": batches_of(config),
        },
        warnings=[
            "episodes are taken to generate max_tokens each, so that the plan is an upper bound",
            f"decoding is taken to reach {DECODING_SHARE:.0%} of the matrix rate",
            *([preset_warning(config.model, config.preset, _WITHOUT_PROMPTS)] if planned else []),
        ],
    )
    asked = batches_of(config) * config.prompts * (1 + config.resample)
    episodes = asked * config.samples
    forward = forward_flops_per_token(shape, episode_tokens)
    rate = matrix_rate(device, _dtype(config))
    reading = asked * prompt_tokens * forward
    decoding = episodes * generated * forward
    scoring = batches_of(config) * config.prompts * config.samples * episode_tokens * forward
    scoring *= 2 if config.kl else 1
    training_seconds = plan.seconds or 0.0
    seconds = (reading + scoring) / rate / TYPICAL_SHARE + decoding / rate / DECODING_SHARE
    mesh = planned_mesh(config)
    seconds /= 1 if mesh is None else mesh.ranks
    memory = on_each_rank(_generation_memory(config, shape, episode_tokens), mesh)
    peak = sum(memory.values())
    plan.sections["Generation"] = {
        "episodes": episodes,
        "tokens_per_episode": generated,
        "tokens": episodes * generated,
        "flops": reading + decoding + scoring,
        "seconds": seconds,
        "training_seconds": training_seconds,
        **memory,
        "peak_bytes": peak,
    }
    plan.seconds = training_seconds + seconds
    _add_memory(plan, peak, available_bytes(device))
    return plan


def _longest(config: GrpoConfig) -> tuple[int, float]:
    """As `_measure`, where no tokenizer is there: the prompts of the run, as long as fit before their answers."""
    return largest_prompts(config), max(0, config.seq_len - config.max_tokens)


def _measure(config: GrpoConfig, shape: HybridConfig) -> tuple[int, float]:
    """How many prompts there are, and about how many tokens they have. ArtifactError for a broken line among the first."""
    tokenizer = load_tokenizer(config.model, shape.vocab_size)
    count, lengths = 0, []
    for source in resolve_sources((item.path, item.weight) for item in config.data):
        lines = (line for file in source.files for line in json_lines(file))
        for row, place in islice(lines, MEASURED):
            lengths.append(len(prompt_ids(tokenizer, Task.of(parse_sample(row, place)))))
            count += 1
        count += sum(1 for _ in lines)
    if not lengths:
        raise ArtifactError("has no prompts", where=str(config.data[0].path), remedy="give it some")
    return count, fmean(lengths)


def _dtype(config: GrpoConfig) -> torch.dtype:
    return torch.bfloat16 if config.precision == "bfloat16" else torch.float32


def _generation_memory(config: GrpoConfig, shape: HybridConfig, length: int) -> dict[str, int]:
    """Bytes while episodes are sampled: the optimizer stays where it is, and so do the models that only judge."""
    element = 2 if config.precision == "bfloat16" else 4
    weights = count_parameters(shape).total * (4 + (2 if element == 2 else 0))
    return {
        "weights_bytes": weights,
        "optimizer_bytes": 8 * count_parameters(shape).total,
        "reference_bytes": weights if config.kl else 0,
        "reward_model_bytes": sum(
            4 * count_parameters(_judge_shape(part, config, shape)).total
            for part in config.rewards
            if isinstance(part, ModelReward)
        ),
        "kv_cache_bytes": kv_cache_bytes(shape, length, config.max_rows, element),
        "ssm_state_bytes": ssm_state_bytes(shape, config.max_rows),
        "conv_state_bytes": conv_state_bytes(shape, config.max_rows, element),
    }


def _judge_shape(part: ModelReward, config: GrpoConfig, shape: HybridConfig) -> HybridConfig:
    """The policy's where the plan is for a preset and the reward model is not there either."""
    return shape if config.preset is not None and not part.path.exists() else read_config(part.path)


def _add_memory(plan: Plan, generation: int, available: int) -> None:
    """The peak of both phases, and a refusal where one of them does not fit."""
    other = sum(int(plan.sections["Generation"][name]) for name in ("reference_bytes", "reward_model_bytes"))
    training = int(plan.sections["Memory"]["total_bytes"]) + other
    plan.sections["Memory"]["other_models_bytes"] = other
    plan.peak_bytes = max(training, generation)
    if plan.refusals:
        return
    if training > available:
        plan.refusals.append(
            f"training needs {format_bytes(training)} with the other models, {format_bytes(available)} are there: "
            "lower --micro-batch or --seq-len, or do without --kl"
        )
    elif generation > available:
        plan.refusals.append(
            f"sampling needs {format_bytes(generation)}, {format_bytes(available)} are there: lower --max-rows"
        )
