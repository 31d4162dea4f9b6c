"""GRPO as pure functions: advantages of a group's rewards, and the clipped policy loss of tokens.

Sources: DeepSeekMath (arXiv 2402.03300), DAPO (arXiv 2503.14476); tests/peers compares both with trl.

Shapes: S samples of a group, B rows, T tokens.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

STD_FLOOR = 1e-4
"""Added to the standard deviation of a group's rewards, as trl does."""


def advantages(
    rewards_S: Tensor, *, baseline: Literal["group", "leave-one-out"] = "group", normalize: bool = True
) -> Tensor:
    """[S] how much better each sample is than its group. NaN rewards, of failed samples, count for nobody and get 0.

    baseline: the mean of the group, or for each sample that of the others. normalize: divide by the group's
    standard deviation (Bessel's correction) + 1e-4. A group of fewer than two rewards has no advantages.
    """
    valid_S = ~rewards_S.isnan()
    count = int(valid_S.sum())
    if count < 2:
        return torch.zeros_like(rewards_S)
    rewards = rewards_S[valid_S]
    centred = rewards - rewards.mean()
    if normalize:
        centred = centred / (rewards.std() + STD_FLOOR)
    if baseline == "leave-one-out":  # r - mean of the others = (r - mean of all) * n / (n - 1)
        centred = centred * (count / (count - 1))
    return torch.zeros_like(rewards_S).masked_scatter(valid_S, centred)


def all_equal(rewards_S: Tensor) -> bool:
    """Nothing can be learned from the group: its rewards are equal, or fewer than two are there."""
    rewards = rewards_S[~rewards_S.isnan()]
    return len(rewards) < 2 or bool((rewards == rewards[0]).all())


@dataclass(frozen=True)
class PolicyTerms:
    """loss_BT: each token's loss, carrying the gradient. kl_BT: its share of the divergence from the reference, without the
    coefficient; 0 without a reference. clipped_low_BT, clipped_high_BT: where the ratio was clipped and has no gradient."""

    loss_BT: Tensor
    kl_BT: Tensor
    clipped_low_BT: Tensor
    clipped_high_BT: Tensor


def policy_terms(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    reference_logprobs_BT: Tensor | None = None,
    *,
    clip_low: float,
    clip_high: float,
    kl: float = 0.0,
) -> PolicyTerms:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) + kl r k3 of each token, r = exp(logprob - old logprob).

    k3 = exp(d) - d - 1 with d = reference logprob - logprob. The ratio before it makes its gradient that of the KL
    divergence (DeepSeek-V3.2, arXiv 2512.02556; trl's default).
    """
    ratio_BT = (logprobs_BT - old_logprobs_BT).exp()
    clipped_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    loss_BT = -torch.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT)
    kl_BT = torch.zeros_like(loss_BT)
    if reference_logprobs_BT is not None:
        difference_BT = reference_logprobs_BT - logprobs_BT
        kl_BT = (difference_BT.exp() - difference_BT - 1) * ratio_BT
        loss_BT = loss_BT + kl * kl_BT
    return PolicyTerms(
        loss_BT=loss_BT,
        kl_BT=kl_BT.detach(),
        clipped_low_BT=(ratio_BT < 1 - clip_low) & (advantages_BT < 0),
        clipped_high_BT=(ratio_BT > 1 + clip_high) & (advantages_BT > 0),
    )
