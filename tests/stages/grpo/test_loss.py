import math

import pytest
import torch

from stages.grpo.loss import STD_FLOOR, advantages, all_equal, policy_terms

NAN = math.nan


def test_advantages_of_a_group_by_hand() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0])
    std = (4 * 0.25 / 3) ** 0.5
    expected = torch.tensor([0.5, -0.5, -0.5, 0.5])
    torch.testing.assert_close(advantages(rewards, normalize=False), expected)
    torch.testing.assert_close(advantages(rewards), expected / (std + STD_FLOOR))


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    rewards = torch.tensor([3.0, 1.0, 2.0])
    found = advantages(rewards, baseline="leave-one-out", normalize=False)
    torch.testing.assert_close(found, torch.tensor([3 - 1.5, 1 - 2.5, 2 - 2.0]))


def test_a_failed_sample_counts_for_nobody() -> None:
    whole = advantages(torch.tensor([1.0, 0.0, 0.5]))
    found = advantages(torch.tensor([1.0, NAN, 0.0, 0.5]))
    torch.testing.assert_close(found, torch.stack([whole[0], torch.tensor(0.0), whole[1], whole[2]]))
    assert not advantages(torch.tensor([1.0, NAN])).any()
    assert not advantages(torch.tensor([NAN, NAN])).any()


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1.0, 1.0], True),
        ([1.0, 0.0], False),
        ([1.0, NAN, 1.0], True),
        ([NAN], True),
        ([0.0, NAN, 1.0], False),
    ],
)
def test_groups_without_a_difference(rewards: list[float], expected: bool) -> None:
    assert all_equal(torch.tensor(rewards)) is expected


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [(1.0, 2.0, -2.0), (1.5, 1.0, 0.0), (1.5, -1.0, 1.5), (0.5, -1.0, 0.0), (0.5, 1.0, -0.5)],
)
def test_the_ratio_is_clipped_only_where_the_policy_already_went_too_far(
    ratio: float, advantage: float, gradient: float
) -> None:
    logprob = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    terms = policy_terms(
        logprob, torch.zeros_like(logprob), torch.tensor([[advantage]]), clip_low=0.2, clip_high=0.28
    )
    terms.loss_BT.sum().backward()
    assert logprob.grad is not None
    assert float(logprob.grad) == pytest.approx(gradient)
    assert bool(terms.clipped_low_BT | terms.clipped_high_BT) is (gradient == 0)


def test_the_kl_term_is_an_unbiased_gradient_of_the_divergence() -> None:
    logits = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    reference = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).log_softmax(0)
    logprobs = logits.log_softmax(0)
    terms = policy_terms(
        logprobs[None],
        logprobs.detach()[None],
        torch.zeros(1, 6),
        reference[None],
        clip_low=0.2,
        clip_high=0.2,
        kl=1.0,
    )
    expected = (logprobs.exp() * (logprobs - reference)).sum()
    (over_all_tokens,) = torch.autograd.grad(
        (logprobs.detach().exp() * terms.loss_BT[0]).sum(), logits, retain_graph=True
    )
    torch.testing.assert_close(over_all_tokens, torch.autograd.grad(expected, logits)[0])
    torch.testing.assert_close((logprobs.detach().exp() * terms.kl_BT[0]).sum(), expected.detach())
