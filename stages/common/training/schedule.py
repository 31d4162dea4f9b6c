"""Learning rate as a function of the tokens seen: warmup, stable, decay (WSD), or constant."""

from collections.abc import Callable
from dataclasses import dataclass

from stages.common.training.settings import ScheduleSettings


@dataclass(frozen=True)
class WarmupStableDecay:
    """Linear from 0 to `peak` over `warmup` tokens, `peak` until `decay` tokens before the end, then linear to `floor`.

    Report, section 2.4: warmup 8B of 20T tokens, peak 4.5e-4, decay over the last 3.6T tokens to 4.5e-6. The shape of the
    decay is not stated there; linear is this project's choice.
    """

    peak: float
    floor: float
    total: int
    warmup: int
    decay: int

    def __call__(self, tokens: int) -> float:
        """Learning rate of the step that begins after `tokens` tokens and is counted by its end."""
        if tokens < self.warmup:
            return self.peak * tokens / self.warmup
        left = max(self.total - tokens, 0)
        if left >= self.decay:
            return self.peak
        return self.floor + (self.peak - self.floor) * left / self.decay


def constant(learning_rate: float) -> Callable[[int], float]:
    """The same rate for every step."""
    return lambda _tokens: learning_rate


def constant_after_warmup(learning_rate: float, warmup_steps: int) -> Callable[[int], float]:
    """Of a step's number, counted from 1: linear from 0 over `warmup_steps`, then the same rate for every step."""
    return lambda step: learning_rate * min(1.0, step / warmup_steps) if warmup_steps else learning_rate


def warmup_decay(settings: ScheduleSettings, tokens: int) -> WarmupStableDecay:
    """Of a run of so many tokens, the schedule that its settings give as shares."""
    return WarmupStableDecay(
        peak=settings.learning_rate,
        floor=settings.final_learning_rate or settings.learning_rate / 10,
        total=tokens,
        warmup=round(settings.warmup_fraction * tokens),
        decay=round(settings.decay_fraction * tokens),
    )
