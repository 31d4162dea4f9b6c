"""Chunked cross-entropy against the plain formula; labels of packed rows."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import model.loss
from model.loss import IGNORED, next_token_labels, token_cross_entropy

VOCAB, HIDDEN = 11, 6


def arguments(
    *shape: int, dtype: torch.dtype = torch.float64, ignored: float = 0.3
) -> tuple[Tensor, Tensor, Tensor]:
    hidden = torch.randn(*shape, HIDDEN, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCAB, HIDDEN, dtype=dtype, requires_grad=True)
    labels = torch.randint(VOCAB, shape)
    labels[torch.rand(shape) < ignored] = IGNORED
    return hidden, weight, labels


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_is_the_plain_formula_whatever_the_chunk(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.loss, "chunk_rows", lambda _vocab, **_: rows)
    hidden, weight, labels = arguments(3, 7)
    losses = token_cross_entropy(hidden, weight, labels)
    plain = F.cross_entropy(
        (hidden @ weight.t()).flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    torch.testing.assert_close(losses.per_token.flatten(), plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(losses.total, plain.sum(), rtol=1e-12, atol=1e-12)
    assert losses.count == int((labels != IGNORED).sum())
    for scale in (1.0, 0.25):  # the gradient that comes from above
        ours = torch.autograd.grad(losses.total * scale, (hidden, weight), retain_graph=True)
        expected = torch.autograd.grad(plain.sum() * scale, (hidden, weight), retain_graph=True)
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_gradcheck() -> None:
    hidden, weight, labels = arguments(5)
    assert torch.autograd.gradcheck(
        lambda hidden, weight: token_cross_entropy(hidden, weight, labels).total, (hidden, weight)
    )


def test_nothing_to_learn_is_zero_and_has_zero_gradients() -> None:
    hidden, weight, labels = arguments(4, ignored=1.1)
    losses = token_cross_entropy(hidden, weight, labels)
    assert (losses.total.item(), losses.count) == (0.0, 0)
    for gradient in torch.autograd.grad(losses.total, (hidden, weight)):
        assert not gradient.any()


def test_ignored_tokens_leave_no_trace() -> None:
    """Not even where their hidden state is far out."""
    hidden, weight, labels = arguments(6)
    labels[2] = IGNORED
    wild = hidden.detach().clone()
    wild[2] = 1e200
    wild.requires_grad_()
    plain, changed = (token_cross_entropy(value, weight, labels) for value in (hidden, wild))
    assert torch.equal(plain.total, changed.total)
    assert torch.equal(
        torch.autograd.grad(plain.total, weight)[0], torch.autograd.grad(changed.total, weight)[0]
    )


def test_large_logits_do_not_overflow() -> None:
    hidden, weight, labels = arguments(6, dtype=torch.float32, ignored=0)
    losses = token_cross_entropy(hidden * 1e4, weight, labels)
    assert torch.isfinite(losses.per_token).all()


def test_no_gradient_asked_for_none_computed() -> None:
    hidden, weight, labels = arguments(6)
    expected = token_cross_entropy(hidden, weight, labels).total
    with torch.no_grad():
        losses = token_cross_entropy(hidden, weight, labels)
    assert not losses.total.requires_grad
    assert torch.equal(losses.total, expected)
    (gradient,) = torch.autograd.grad(token_cross_entropy(hidden, weight.detach(), labels).total, hidden)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, hidden)[0])


def test_no_product_for_a_gradient_where_none_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.loss, "input_gradient", lambda *_: pytest.fail("a gradient was computed"))
    hidden, head = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    with torch.no_grad():
        assert token_cross_entropy(hidden, head, torch.tensor([1, 2, IGNORED])).count == 2


def test_bfloat16_states_and_float32_head() -> None:
    """Reduced in float32; gradients in the dtypes of what they belong to."""
    hidden, weight, labels = arguments(64, dtype=torch.float32)
    narrow = hidden.detach().bfloat16().requires_grad_()
    losses = token_cross_entropy(narrow, weight, labels)
    assert losses.total.dtype == torch.float32
    gradients = torch.autograd.grad(losses.total, (narrow, weight))
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32]
    wide = token_cross_entropy(hidden, weight, labels)
    torch.testing.assert_close(losses.total, wide.total, rtol=1e-2, atol=0)
    expected = torch.autograd.grad(wide.total, (hidden, weight))
    for gradient, reference in zip(gradients, expected, strict=True):
        assert (gradient.float() - reference).norm() / reference.norm() < 2e-2


def test_labels_are_the_next_token_of_the_same_document() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9, 3]])
    documents = torch.tensor([[0, 0, 0, 1, 1, -1]])
    assert next_token_labels(ids).tolist() == [[6, 7, 8, 9, 3, IGNORED]]
    assert next_token_labels(ids, documents).tolist() == [[6, 7, IGNORED, 9, IGNORED, IGNORED]]
    assert next_token_labels(ids, torch.tensor([[0, 0, -1, -1, -1, -1]])).tolist() == [
        [6, *[IGNORED] * 5]
    ]  # fmt: skip


def test_labels_do_not_change_their_inputs() -> None:
    ids, documents = torch.tensor([[1, 2, 3]]), torch.tensor([[0, 0, 1]])
    next_token_labels(ids, documents)
    assert (ids.tolist(), documents.tolist()) == ([[1, 2, 3]], [[0, 0, 1]])
