"""The steps of a GRPO run: how many batches of rollouts, how large at most, at which learning rate."""

import math
from collections.abc import Callable

from stages.common.training.steps import StepShape
from stages.grpo.config import GrpoConfig


def batches_of(config: GrpoConfig) -> int:
    """Batches of rollouts in the run."""
    return math.ceil(config.steps / config.updates)


def largest_prompts(config: GrpoConfig) -> int:
    """Prompts that the run asks if each batch is sampled as often as may be."""
    return batches_of(config) * config.prompts * (1 + config.resample)


def estimated_steps(config: GrpoConfig, episode_tokens: int | None = None) -> StepShape:
    """The run's steps with rows for episodes of so many tokens each; by default all as long as they may be."""
    tokens = config.prompts * config.samples * (episode_tokens or config.seq_len)
    return StepShape(
        steps=config.steps,
        sequences=math.ceil(tokens / config.seq_len),
        micro_batch=config.micro_batch,
        seq_len=config.seq_len,
    )


def learning_rate(config: GrpoConfig) -> Callable[[int], float]:
    """Of step n, from 1: rising from zero over the warmup, then constant."""
    return lambda step: (
        config.learning_rate * min(1.0, step / config.warmup_steps if config.warmup_steps else 1.0)
    )
