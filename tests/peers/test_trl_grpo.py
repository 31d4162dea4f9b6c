"""GRPO against trl's GRPOTrainer: the same log-probabilities and rewards give its loss, gradients, KL and advantages."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.grpo.loss import advantages, policy_terms

trl = pytest.importorskip("trl")

B, T, VOCABULARY = 6, 9, 13


class _Accelerator:
    num_processes = 1

    def gather(self, x: Tensor) -> Tensor:
        return x

    def reduce(self, x: Tensor, reduction: str) -> Tensor:
        return x


def trainer(
    logprobs: Tensor, entropies: Tensor, loss_type: str, clip: tuple[float, float], beta: float
) -> Any:
    """What `GRPOTrainer._compute_loss` looks at of its trainer; the log-probabilities are given."""
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, entropies, None),
        _metrics={"train": defaultdict(list)},
        _entropy_bonus_enabled=False,
        accelerator=_Accelerator(),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=True, steps_per_generation=1),
        aux_loss_enabled=False,
        beta=beta,
        current_gradient_accumulation_steps=1,
        epsilon_high=clip[1],
        epsilon_low=clip[0],
        importance_sampling_level="token",
        loss_type=loss_type,
        model=SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_adaptive_entropy=False,
        use_vllm=False,
    )


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
@pytest.mark.parametrize("clip", [(0.2, 0.2), (0.1, 0.28)])
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_loss_gradient_kl_and_clip_fractions(loss_type: str, clip: tuple[float, float], beta: float) -> None:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits = draw(B, T, VOCABULARY).requires_grad_()
    ids = torch.randint(VOCABULARY, (B, T), generator=generator)
    logprobs = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    old, reference = logprobs.detach() + 0.6 * draw(B, T), logprobs.detach() + 0.6 * draw(B, T)
    lengths = torch.tensor([9, 4, 1, 7, 9, 2])
    completion = (torch.arange(T) < lengths[:, None]).long()
    tools = (torch.rand(B, T, generator=generator) > 0.2).long()
    tools[:, 0] = 1
    mask = (completion * tools).double()
    advantage = draw(B)

    peer = trainer(logprobs, torch.zeros_like(logprobs), loss_type, clip, beta)
    inputs = {
        "prompt_ids": ids[:, :0],
        "prompt_mask": ids[:, :0],
        "completion_ids": ids,
        "completion_mask": completion,
        "tool_mask": tools,
        "advantages": advantage,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    expected = trl.GRPOTrainer._compute_loss(peer, peer.model, inputs)
    (expected_gradient,) = torch.autograd.grad(expected, logits, retain_graph=True)

    terms = policy_terms(
        logprobs,
        old,
        advantage[:, None],
        reference if beta else None,
        clip_low=clip[0],
        clip_high=clip[1],
        kl=beta,
    )
    weights = mask / mask.sum() if loss_type == "dapo" else mask / mask.sum(1, keepdim=True) / B
    loss = (weights * terms.loss_BT).sum()
    (gradient,) = torch.autograd.grad(loss, logits)

    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)
    assert expected_gradient.abs().max() > 1e-3
    told = peer._metrics["train"]

    def mean(values: Tensor) -> float:
        return float((values * mask).sum() / mask.sum())

    assert mean(terms.clipped_low_BT) > 0
    assert mean(terms.clipped_low_BT) == pytest.approx(told["clip_ratio/low_mean"][0], abs=1e-6)
    assert mean(terms.clipped_high_BT) > 0
    assert mean(terms.clipped_high_BT) == pytest.approx(told["clip_ratio/high_mean"][0], abs=1e-6)
    if beta:
        assert mean(terms.kl_BT) == pytest.approx(told["kl"][0], abs=1e-6)


def test_advantages_are_trls() -> None:
    from trl.trainer.utils import nanstd

    rewards = torch.rand(5, 8, generator=torch.Generator().manual_seed(1))
    rewards[1, 3] = rewards[2, 0] = rewards[2, 5] = float("nan")
    rewards[3] = 0.5
    expected = (rewards - rewards.nanmean(1, keepdim=True)) / (nanstd(rewards, dim=1)[:, None] + 1e-4)
    expected = expected.nan_to_num(0)  # trl gives a failed sample an advantage of zero
    torch.testing.assert_close(
        torch.stack([advantages(group) for group in rewards]), expected, rtol=0, atol=1e-5
    )
