"""The training loop of every stage: batches in one fixed order, an objective, AdamW, a schedule, and a state to resume from.

A step's loss is the sum over its tokens divided by their number in the whole step, so accumulation does not change it.
Everything a step depends on is the parameters, the optimizer and the step's number; a run that continues from a saved
state therefore repeats the uninterrupted one bit for bit on the same device and thread count.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.counting import training_flops_per_token
from model.errors import InterruptedRunError, UsageError
from model.hybrid import HybridLM
from stages.common.data.blending import BlendedOrder
from stages.common.reporter import ProgressBar
from stages.common.stage import StageContext
from stages.common.training.batches import Batch, TrainingData
from stages.common.training.checkpoint import Counters, load_state, save_state
from stages.common.training.divergence import diverged_gradient, diverged_loss
from stages.common.training.hardware import matrix_rate, used_bytes
from stages.common.training.metrics_log import MetricsLog
from stages.common.training.objectives import Objective
from stages.common.training.optimizer import build_optimizer
from stages.common.training.settings import TrainingSettings
from stages.common.training.validation import Validation, validate


@dataclass(frozen=True)
class StepShape:
    """How a run is cut into optimizer steps, and a step into micro-batches."""

    steps: int
    sequences: int
    micro_batch: int

    @classmethod
    def of(cls, settings: TrainingSettings, seq_len: int) -> "StepShape":
        """UsageError if a step does not come out as whole micro-batches."""
        micro_tokens = settings.micro_batch * seq_len
        if settings.batch_tokens % micro_tokens:
            nearest = max(1, round(settings.batch_tokens / micro_tokens)) * micro_tokens
            raise UsageError(
                f"{settings.batch_tokens} tokens a step are no whole number of micro-batches of "
                f"{settings.micro_batch} x {seq_len} tokens",
                where="batch_tokens",
                remedy=f"pass --batch-tokens {nearest}, or another --micro-batch",
            )
        return cls(
            steps=math.ceil(settings.tokens / settings.batch_tokens),
            sequences=settings.batch_tokens // seq_len,
            micro_batch=settings.micro_batch,
        )

    @property
    def total_sequences(self) -> int:
        return self.steps * self.sequences


class TrainingLoop:
    """One run. `order` says which row comes when; `schedule` maps tokens seen to the learning rate."""

    def __init__(
        self,
        lm: HybridLM,
        data: TrainingData,
        order: BlendedOrder,
        objective: Objective,
        schedule: Callable[[int], float],
        byte_lengths: NDArray[np.int64],
        settings: TrainingSettings,
        context: StageContext,
    ) -> None:
        self.lm, self.data, self.order = lm, data, order
        self.objective, self.schedule = objective, schedule
        self.byte_lengths, self.settings, self.context = byte_lengths, settings, context
        self.shape = StepShape.of(settings, data.seq_len)
        self.optimizer = build_optimizer(lm, settings)
        self.counters = Counters()
        self.flops_per_token = training_flops_per_token(lm.config, data.seq_len)
        self.rate = matrix_rate(lm.device, lm.activation_dtype)
        self.seconds_saved_at = time.monotonic()

    def run(self) -> Validation | None:
        """Train to the end and validate; None where nothing was held out. InterruptedRunError with the state saved."""
        resumed = load_state(self.context.run_dir, self.lm, self.optimizer)
        if resumed is not None:
            self.counters = resumed
            self.context.reporter.log(f"continuing after step {resumed.step} of {self.shape.steps}")
        self.lm.train()
        progress = self.context.reporter.progress("training", self.shape.steps, "step")
        with (
            MetricsLog(
                self.context.run_dir, self.counters.step, tensorboard=self.settings.tensorboard
            ) as log,
            progress as bar,
        ):
            bar.update(self.counters.step)
            while self.counters.step < self.shape.steps:
                self._step(log, bar)
            final = self._validate(self.data.validation_batches(0, self.settings.micro_batch), log)
            log.copy_to(self.context.staging)
        return final

    def _step(self, log: MetricsLog, bar: ProgressBar) -> None:
        started = time.monotonic()
        step, sequences = self.counters.step, self.shape.sequences
        batch = self.data.batch(self.order, step * sequences, sequences)
        tokens_seen = (step + 1) * self.settings.batch_tokens
        learning_rate = self.schedule(tokens_seen)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self._accumulate(batch, step)
        norm = float(torch.nn.utils.clip_grad_norm_(self.lm.parameters(), self.settings.clip))
        if not math.isfinite(norm):
            raise diverged_gradient(self.lm, self._where(step))
        self.optimizer.step()
        self.optimizer.zero_grad()
        seconds = time.monotonic() - started
        self.counters = Counters(step + 1, self.counters.seconds + seconds)
        tok_per_s = self.settings.batch_tokens / seconds
        mfu = tok_per_s * self.flops_per_token / self.rate
        bar.update(1, loss=loss, tok_per_s=tok_per_s, mfu=mfu, memory_bytes=used_bytes(self.lm.device))
        last = self.counters.step == self.shape.steps
        if last or self.counters.step % self.settings.log_every == 0:
            log.write(
                self.counters.step,
                tokens=tokens_seen,
                loss=loss,
                learning_rate=learning_rate,
                gradient_norm=norm,
                tok_per_s=tok_per_s,
                mfu=mfu,
                phase=self.order.phase_of(step * sequences) + 1,
            )
        every = self.settings.validate_every
        if every and not last and self.counters.step % every == 0:
            tokens = self.settings.validation_tokens
            self._validate(self.data.validation_batches(tokens, self.settings.micro_batch), log)
        if self.context.stop:
            self._interrupt()
        if time.monotonic() - self.seconds_saved_at > self.settings.save_seconds and not last:
            self._save()

    def _accumulate(self, batch: Batch, step: int) -> float:
        """Gradients of the step's mean loss, micro-batch by micro-batch; returns that loss in nats a token."""
        total, count, size = 0.0, max(batch.count, 1), self.shape.micro_batch
        for start in range(0, self.shape.sequences, size):
            if self.context.stop:
                self._interrupt()
            micro = batch.rows(start, start + size).to(self.lm.device)
            loss = self.objective(self.lm, micro)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise diverged_loss(self.lm, micro, self._where(step, start, start + size))
            (loss / count).backward()
            total += value
        return total / count

    def _validate(self, batches: Sequence[Batch], log: MetricsLog) -> Validation | None:
        if not batches:
            return None
        self.lm.eval()
        result = validate(self.lm, batches, self.byte_lengths)
        self.lm.train()
        log.write(
            self.counters.step, validation_loss=result.loss, validation_bits_per_byte=result.bits_per_byte
        )
        self.context.reporter.log(
            f"step {self.counters.step}: validation loss {result.loss:.4f}, {result.bits_per_byte:.4f} bits per byte"
        )
        return result

    def _save(self) -> None:
        save_state(self.context.run_dir, self.lm, self.optimizer, self.counters)
        self.seconds_saved_at = time.monotonic()

    def _interrupt(self) -> None:
        """Keep the last whole step; a half-done one starts over."""
        self._save()
        raise InterruptedRunError(
            "interrupted, the state is saved",
            where=f"after step {self.counters.step} of {self.shape.steps}",
            remedy="run the same command to continue",
        )

    def _where(self, step: int, start: int = 0, end: int | None = None) -> str:
        """The step and the rows of its micro-batch, for `nano2 data show`."""
        first = step * self.shape.sequences
        end = self.shape.sequences if end is None else end
        places = [f"{source}[{row}]" for source, row in (self.order[first + i] for i in range(start, end))]
        shown = ", ".join(places[:8]) + (", ..." if len(places) > 8 else "")
        return f"step {step + 1}, rows {shown}"
