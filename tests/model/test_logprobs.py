"""Log-probabilities in chunks against the plain computation, trl's helpers among them."""

import pytest
import torch
from torch import Tensor
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from model import loss
from model.logprobs import token_logprobs
from model.loss import IGNORED


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 17, 8, generator=generator, dtype=dtype, requires_grad=True)
    head = torch.randn(50, 8, generator=generator, dtype=dtype, requires_grad=True)
    labels = torch.randint(0, 50, (3, 17), generator=generator)
    labels[torch.rand(3, 17, generator=generator) < 0.4] = IGNORED
    weights = torch.randn(3, 17, generator=generator, dtype=dtype)
    return hidden, head, labels, weights


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("rows", [4, 1000])
def test_values_and_gradients(monkeypatch: pytest.MonkeyPatch, temperature: float, rows: int) -> None:
    monkeypatch.setattr(loss, "chunk_rows", lambda _vocab, **_: rows)
    hidden, head, labels, weights = inputs()
    ours, entropies = token_logprobs(hidden, head, labels, temperature=temperature)
    gradients = torch.autograd.grad((ours * weights).sum(), (hidden, head))

    logits = hidden @ head.T / temperature
    kept = labels != IGNORED
    theirs = torch.where(kept, selective_log_softmax(logits, labels.clamp(min=0)), 0.0)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        entropies, torch.where(kept, entropy_from_logits(logits), 0.0).detach(), atol=1e-12, rtol=0
    )
    expected = torch.autograd.grad((theirs * weights).sum(), (hidden, head))
    torch.testing.assert_close(gradients, expected, atol=1e-12, rtol=0)


def test_nothing_asked_for() -> None:
    hidden, head, labels, _ = inputs()
    ours, entropies = token_logprobs(hidden, head, torch.full_like(labels, IGNORED))
    assert not ours.any()
    assert not entropies.any()
    ours.sum().backward()
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_low_precision_comes_out_wide() -> None:
    hidden, head, labels, _ = inputs(torch.bfloat16)
    ours, entropies = token_logprobs(hidden, head.float(), labels)
    assert ours.dtype == entropies.dtype == torch.float32
    wide = torch.log_softmax((hidden.double() @ head.double().T), -1)
    expected = torch.where(labels != IGNORED, wide.gather(-1, labels.clamp(min=0)[..., None])[..., 0], 0.0)
    torch.testing.assert_close(ours.double(), expected, atol=0.1, rtol=0.02)
