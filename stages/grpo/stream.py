"""The stream of a GRPO run: rollouts of the model as it is, each batch of them for `updates` steps."""

import math

from model.errors import ArtifactError, DivergedError
from model.hybrid import HybridLM
from stages.common.reporter import Reporter
from stages.grpo.batch import PolicyBatch, pack
from stages.grpo.config import GrpoConfig
from stages.grpo.policy import Gap, scored
from stages.grpo.sampling import Sampled, Sampler, failure_reasons, figures, shown, trained
from stages.grpo.store import Rollouts, RolloutStore


class RolloutStream:
    """Makes, keeps and hands out the batches. `reference`: the model of the KL term, None without one."""

    def __init__(
        self,
        lm: HybridLM,
        reference: HybridLM | None,
        sampler: Sampler,
        store: RolloutStore,
        config: GrpoConfig,
        reporter: Reporter,
        *,
        pad_id: int,
    ) -> None:
        self._lm, self._reference = lm, reference
        self._sampler, self._store = sampler, store
        self._config, self._reporter = config, reporter
        self._pad_id = pad_id
        self._number = -1
        self._current: Rollouts | None = None

    def batch(self, step: int) -> PolicyBatch:
        """The rollouts of step `step`, counted from 0."""
        return self._rollouts(step).batch

    def figures(self, step: int) -> dict[str, float]:
        return dict(self._rollouts(step).figures)

    def describe(self, step: int, start: int, end: int) -> str:
        return f"step {step + 1}, rows {start} to {end - 1} of its rollouts"

    def _rollouts(self, step: int) -> Rollouts:
        number = step // self._config.updates
        if self._current is None or self._number != number:
            self._current = self._store.load(number) or self._make(number, step)
            self._number = number
        return self._current

    def _make(self, number: int, step: int) -> Rollouts:
        where = f"step {step + 1} of {self._config.steps}"
        if step % self._config.updates:
            raise ArtifactError(
                "the rollouts that the run was in the midst of are gone",
                where=where,
                remedy="restore OUT.run/rollouts, or start over with --overwrite",
            )
        sampled = self._sampler.sample(self._store.next_prompt(number), where)
        rollouts = trained(sampled.groups, overlong=self._config.overlong)
        if not rollouts:
            raise ArtifactError(
                "no episode can be trained: all were cut at the token limit or have no reward",
                where=where,
                remedy="raise --max-tokens, or see rollouts.jsonl of a run with --overlong keep",
            )
        batch = pack(rollouts, self._config.seq_len, self._pad_id, self._config.aggregation)
        batch, gap = scored(
            self._lm,
            batch,
            micro_batch=self._config.micro_batch,
            temperature=self._config.temperature,
            reference=self._reference,
        )
        self._refuse_drift(gap, where)
        made = Rollouts(
            batch,
            sampled.next_prompt,
            {
                **figures(sampled.groups, sampled.replaced),
                "trained_episodes": len(rollouts),
                "gap": gap.mean,
                "gap_max": gap.largest,
            },
            shown(sampled.groups, self._sampler.tokenizer, self._config.keep_rollouts),
        )
        self._tell(made, sampled, where)
        self._store.save(number, made)
        return made

    def _refuse_drift(self, gap: Gap, where: str) -> None:
        if gap.mean <= self._config.max_gap:
            return
        what = (
            "are not finite" if math.isnan(gap.mean) else f"differ by {gap.mean:.3g} nats a token on average"
        )
        raise DivergedError(
            f"log-probabilities of trainer and engine {what}, above max_gap {self._config.max_gap:g}",
            where=where,
            remedy="compare them with `nano2 verify`; use --precision float32, or raise --max-gap",
        )

    def _tell(self, made: Rollouts, sampled: Sampled, where: str) -> None:
        """What a user must not overlook."""
        if made.figures["failed"]:
            reasons = failure_reasons(reward for group in sampled.groups for reward in group.rewards)
            self._reporter.warn(
                f"{where}: {made.figures['failed']:.0f} samples have no reward and are left out: {reasons}"
            )
        if made.figures["equal_groups"] == 1:
            self._reporter.warn(f"{where}: all groups have equal rewards, so nothing is learned from them")
