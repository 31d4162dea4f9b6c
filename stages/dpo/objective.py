"""What a step of dpo minimizes: the preference loss, and a share of the chosen sides' own cross-entropy."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.hybrid import HybridLM
from stages.common.preferences.batches import PairBatch, answer_logprobs
from stages.common.training.objectives import Loss
from stages.dpo.config import DpoConfig
from stages.dpo.loss import implicit_rewards, preference_losses


@dataclass(frozen=True)
class DpoObjective:
    """Of each pair the DPO loss; of the step, `sft_weight` times the mean -log p of the chosen sides' tokens."""

    beta: float
    label_smoothing: float
    sft_weight: float

    @classmethod
    def of(cls, config: DpoConfig) -> "DpoObjective":
        return cls(config.beta, config.label_smoothing, config.sft_weight)

    def __call__(self, lm: HybridLM, batch: PairBatch) -> Loss:
        policy_P2 = answer_logprobs(lm, batch)
        rewards_P2 = implicit_rewards(policy_P2, batch.reference_P2, self.beta)
        total = preference_losses(rewards_P2, self.label_smoothing).sum()
        preference = float(total.detach())
        # The loop divides by the step's pairs, which leaves the mean over all of the step's chosen tokens.
        sft = -policy_P2[:, 0].sum() / batch.chosen_tokens_per_pair
        if self.sft_weight:
            total = total + self.sft_weight * sft
        rewards, logps = rewards_P2.detach(), policy_P2.detach()
        return Loss(
            total,
            {
                "loss/preference": preference,
                "loss/sft": float(sft.detach()),
                "rewards/chosen": float(rewards[:, 0].sum()),
                "rewards/rejected": float(rewards[:, 1].sum()),
                "rewards/margins": float((rewards[:, 0] - rewards[:, 1]).sum()),
                "rewards/accuracies": float((rewards[:, 0] > rewards[:, 1]).sum()),
                "logps/chosen": float(logps[:, 0].sum()),
                "logps/rejected": float(logps[:, 1].sum()),
            },
        )

    @torch.no_grad()
    def measure(self, lm: HybridLM, batches: Sequence[PairBatch]) -> dict[str, float]:
        """Preference loss, accuracy and margin over held-out pairs; nothing where there are none."""
        sums = Counter[str]()
        for batch in batches:
            sums.update(self(lm, batch.to(lm.device)).sums)
        count = sum(batch.count for batch in batches)
        names = {"loss": "loss/preference", "accuracy": "rewards/accuracies", "margin": "rewards/margins"}
        return {f"validation_{name}": sums[key] / count for name, key in names.items()} if count else {}
