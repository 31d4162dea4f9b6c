"""The training loop of every stage: batches in one fixed order, an objective, AdamW, a schedule, and a state to resume from.

A step's loss is the sum over what it trains on (tokens, pairs) divided by their number in the whole step, so accumulation
does not change it. Everything a step depends on is the parameters, the optimizer and the step's number; a run that
continues from a saved state therefore repeats the uninterrupted one bit for bit on the same device and thread count.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

from model.counting import training_flops_per_token
from model.errors import DivergedError, InterruptedRunError, Nano2Error, NotFiniteError
from model.hybrid import HybridLM
from model.warming import warm
from stages.common.reporter import ProgressBar
from stages.common.stage import StageContext
from stages.common.training.checkpoint import Counters, StateWriter, load_state
from stages.common.training.divergence import diverged_gradient, diverged_loss
from stages.common.training.fp8_fault import fault_of_fp8
from stages.common.training.hardware import matrix_rate, used_bytes
from stages.common.training.metrics_log import MetricsLog
from stages.common.training.objectives import B, Objective, StepBatch
from stages.common.training.optimizer import build_optimizer
from stages.common.training.out_of_memory import memory_for
from stages.common.training.settings import TrainingSettings
from stages.common.training.steps import StepShape
from stages.common.training.team import OneProcess, Team
from stages.common.training.validation import figures_before

B_co = TypeVar("B_co", bound=StepBatch, covariant=True)

Validator = Callable[[HybridLM, int], Mapping[str, float]]
"""Figures of a model on held-out data, over about so many tokens (0: all); empty where nothing was held out."""


class Stream(Protocol[B_co]):
    """What a run trains on. A step's batch depends on the step's number and, where the model itself makes it, on the model
    as it is then: on nothing else, so that a run can be resumed. None: nothing is left to train on, the run ends here."""

    def batch(self, step: int) -> B_co | None: ...

    def figures(self, step: int) -> Mapping[str, float]: ...

    def describe(self, step: int, start: int, end: int) -> str: ...


class TrainingLoop(Generic[B]):
    """One run. `schedule` maps the number of a step, counted from 1, to its learning rate.

    Of `shape` the number of rows in a step is only an estimate: the step's batch has the rows.
    """

    def __init__(
        self,
        lm: HybridLM,
        stream: Stream[B],
        objective: Objective[B],
        schedule: Callable[[int], float],
        validator: Validator,
        shape: StepShape,
        settings: TrainingSettings,
        context: StageContext,
        team: Team | None = None,
    ) -> None:
        self.lm, self.stream, self.objective = lm, stream, objective
        self.schedule, self.validator, self.shape = schedule, validator, shape
        self.settings, self.context = settings, context
        self.team = team or OneProcess()
        self.optimizer = build_optimizer(lm, settings)
        self.states = StateWriter(
            context.run_dir, lm, self.optimizer, self.team.mesh, asynchronous=lm.device.type == "cuda"
        )
        self.counters = Counters()
        self.flops_per_token = training_flops_per_token(lm.config, shape.seq_len)
        self.rate = matrix_rate(lm.device, lm.activation_dtype) * self.team.size
        self.seconds_saved_at = time.monotonic()

    def run(self) -> Mapping[str, float]:
        """Train to the end; the validation's figures there, and `..._before` with `validate_first`.

        InterruptedRunError with the state saved.
        """
        if self.team.mesh is None:
            warm(self.lm, self.shape.micro_batch, self.shape.seq_len)
        resumed = load_state(self.context.run_dir, self.lm, self.optimizer, self.team.mesh)
        if resumed is not None:
            self.counters = resumed
            self.context.reporter.log(f"continuing after step {resumed.step} of {self.shape.steps}")
        self.lm.train()
        progress = self.context.reporter.progress("training", self.shape.steps, "step")
        log_dir = self.context.run_dir if self.team.first else self.context.staging
        with (
            MetricsLog(log_dir, self.counters.step, tensorboard=self.settings.tensorboard) as log,
            progress as bar,
        ):
            bar.update(self.counters.step)
            before = (
                figures_before(lambda: self._validate(0, log), self.context.run_dir, self.team)
                if self.settings.validate_first
                else {}
            )
            while self.counters.step < self.shape.steps and self._step(log, bar):
                pass
            self.states.finish()
            final = self._validate(0, log)
            if self.team.first:
                log.copy_to(self.context.staging)
        return {**before, **final}

    def _step(self, log: MetricsLog, bar: ProgressBar) -> bool:
        """One step; False if there is nothing to train on."""
        started = time.monotonic()
        step = self.counters.step
        batch = self._batch(step)
        if batch is None:
            return False
        size, tokens = len(batch.input_ids_BT), batch.input_ids_BT.numel()
        learning_rate = self.schedule(step + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss, figures = self._accumulate(batch, step)
        norm = self.team.clip_gradients(self.lm, self.settings.clip)
        if not math.isfinite(norm):
            raise self._diverged(batch, diverged_gradient(self.lm, self.stream.describe(step, 0, size)))
        with self._memory_for("the optimizer's step"):
            self.optimizer.step()
        self.optimizer.zero_grad()
        seconds = time.monotonic() - started
        self.counters = Counters(step + 1, self.counters.tokens + tokens, self.counters.seconds + seconds)
        tok_per_s = tokens / seconds
        mfu = tok_per_s * self.flops_per_token / self.rate
        bar.update(1, loss=loss, tok_per_s=tok_per_s, mfu=mfu, memory_bytes=used_bytes(self.lm.device))
        last = self.counters.step == self.shape.steps
        if last or self.counters.step % self.settings.log_every == 0:
            log.write(
                self.counters.step,
                tokens=self.counters.tokens,
                loss=loss,
                learning_rate=learning_rate,
                gradient_norm=norm,
                tok_per_s=tok_per_s,
                mfu=mfu,
                **self.stream.figures(step),
                **figures,
            )
        every = self.settings.validate_every
        if every and not last and self.counters.step % every == 0:
            self._validate(self.settings.validation_tokens, log)
        late = time.monotonic() - self.seconds_saved_at > self.settings.save_seconds
        stop, save = self.team.any(bool(self.context.stop), late and self.team.first)
        if stop:
            self._interrupt()
        if save and not last:
            self._save()
        return True

    def _batch(self, step: int) -> B | None:
        """The step's rows. Making them may take long, and fail: what was trained before is kept then."""
        try:
            return self.stream.batch(step)
        except NotFiniteError as error:
            if not step:
                raise
            # What was saved before is better than the model as it is now.
            raise DivergedError(
                error.what,
                where=f"after step {step}, {error.where}",
                remedy="lower --learning-rate or --clip",
            ) from error
        except Nano2Error:
            if self.counters.step:
                self._save()
                self.states.finish()
            raise

    def _accumulate(self, batch: B, step: int) -> tuple[float, dict[str, float]]:
        """Gradients of the step's mean loss, micro-batch by micro-batch; that loss (nats), and the means of its sums."""
        total, count, size = 0.0, max(batch.count, 1), self.shape.micro_batch
        sums: dict[str, float] = defaultdict(float)
        for start, share in self.team.mine(range(0, len(batch.input_ids_BT), size)):
            with self._memory_for("the forward pass"):
                micro = self.team.cut(batch.rows(start, start + size)).to(self.lm.device)
                loss = self.objective(self.lm, micro)
            value = float(loss.total.detach())
            stop, diverged = self.team.any(bool(self.context.stop), not math.isfinite(value))
            if diverged:
                del loss  # and its activations
                error = diverged_loss(self.lm, micro, self.stream.describe(step, start, start + size))
                raise self._diverged(batch, error)
            with self._memory_for("the backward pass"):
                (loss.total * share / count).backward()
            if stop:  # not between forward and backward, when FSDP has parameters gathered
                self._interrupt()
            total += value * share
            for name, part in loss.sums.items():
                sums[name] += part * share
        total, *parts = self.team.add([total, *sums.values()])
        return total / count, {name: part / count for name, part in zip(sums, parts, strict=True)}

    def _diverged(self, batch: B, error: DivergedError) -> DivergedError:
        """The error for a step that diverged; of FP8 if that alone is why."""
        return fault_of_fp8(self.lm, lambda: self._repeated(batch), self.team, error) or error

    def _repeated(self, batch: B) -> float:
        """The step's loss once more, with its gradient, finite or not."""
        total, count, size = 0.0, max(batch.count, 1), self.shape.micro_batch
        for start, share in self.team.mine(range(0, len(batch.input_ids_BT), size)):
            micro = self.team.cut(batch.rows(start, start + size)).to(self.lm.device)
            loss = self.objective(self.lm, micro).total * share / count
            loss.backward()
            total += float(loss.detach())
        return self.team.add([total])[0]

    def _validate(self, tokens: int, log: MetricsLog) -> Mapping[str, float]:
        self.lm.eval()
        with self._memory_for("the validation"):
            figures = self.validator(self.lm, tokens)
        self.lm.train()
        if figures:
            log.write(self.counters.step, **figures)
            shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items())
            self.context.reporter.log(f"step {self.counters.step}: {shown}")
        return figures

    def _memory_for(self, phase: str) -> AbstractContextManager[None]:
        return memory_for(phase, f"after step {self.counters.step} of {self.shape.steps}", self.settings)

    def _save(self) -> None:
        self.states.save(self.counters)
        self.seconds_saved_at = time.monotonic()

    def _interrupt(self) -> None:
        """Keep the last whole step; a half-done one starts over."""
        self._save()
        self.states.finish()
        raise InterruptedRunError(
            "interrupted, the state is saved",
            where=f"after step {self.counters.step} of {self.shape.steps}",
            remedy="run the same command to continue",
        )
