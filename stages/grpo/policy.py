"""The policy on a batch of rollouts: what it and its reference said before the first update, and the objective."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.logprobs import token_logprobs
from model.loss import IGNORED
from stages.common.training.objectives import Loss
from stages.grpo.batch import PolicyBatch
from stages.grpo.loss import policy_terms


@dataclass(frozen=True)
class Gap:
    """|trainer - engine| of the log-probabilities of the tokens that were sampled, nats, at temperature 1."""

    mean: float
    largest: float


@torch.no_grad()
def scored(
    lm: HybridLM, batch: PolicyBatch, *, micro_batch: int, temperature: float, reference: HybridLM | None
) -> tuple[PolicyBatch, Gap]:
    """The batch with the log-probabilities of trainer and reference, and how far trainer and engine are apart.

    Rows are read as they are trained, `micro_batch` at a time, so that the first update finds ratios of 1.
    """
    parts = [
        batch.rows(start, start + micro_batch) for start in range(0, len(batch.input_ids_BT), micro_batch)
    ]
    old_BT = torch.cat([_logprobs(lm, part, temperature) for part in parts])
    plain_BT = old_BT if temperature == 1 else torch.cat([_logprobs(lm, part, 1.0) for part in parts])
    difference = (plain_BT - batch.engine_logprobs_BT)[batch.labels_BT != IGNORED].abs()
    told = replace(batch, old_logprobs_BT=old_BT)
    if reference is not None:
        reference_BT = torch.cat([_logprobs(reference, part, temperature) for part in parts])
        told = replace(told, reference_logprobs_BT=reference_BT)
    return told, Gap(float(difference.mean()), float(difference.max()))


def _logprobs(lm: HybridLM, batch: PolicyBatch, temperature: float) -> Tensor:
    moved = batch.to(lm.device)
    hidden_BTD = lm.hidden_states(moved.input_ids_BT, moved.document_ids_BT)
    return token_logprobs(hidden_BTD, lm.lm_head.weight, moved.labels_BT, temperature=temperature)[0].cpu()


@dataclass(frozen=True)
class PolicyObjective:
    """The clipped policy loss with the KL term. Sums for the log are weighted as the loss is."""

    clip_low: float
    clip_high: float
    kl: float
    temperature: float

    def __call__(self, lm: HybridLM, batch: PolicyBatch) -> Loss:
        hidden_BTD = lm.hidden_states(batch.input_ids_BT, batch.document_ids_BT)
        logprobs_BT, entropies_BT = token_logprobs(
            hidden_BTD, lm.lm_head.weight, batch.labels_BT, temperature=self.temperature
        )
        terms = policy_terms(
            logprobs_BT,
            batch.old_logprobs_BT,
            batch.advantages_BT,
            batch.reference_logprobs_BT if self.kl else None,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            kl=self.kl,
        )
        told = {"entropy": entropies_BT, "clip_low": terms.clipped_low_BT, "clip_high": terms.clipped_high_BT}
        if self.kl:
            told["kl"] = terms.kl_BT
        return Loss(
            (terms.loss_BT * batch.weights_BT).sum(),
            {name: float((values * batch.weights_BT).sum()) for name, values in told.items()},
        )
