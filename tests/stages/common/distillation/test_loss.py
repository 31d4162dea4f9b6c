"""The divergences against plain formulas in float64, and the top-k one within its bound."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import model.logprobs
import model.loss
from model.kernels.matmul import linear
from model.loss import IGNORED
from stages.common.distillation.loss import TopK, forward_kl, top_k, top_k_kl

VOCAB, STUDENT, TEACHER = 23, 6, 8
Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def arguments(*shape: int, dtype: torch.dtype = torch.float64, ignored: float = 0.3) -> Arguments:
    """Student's states and head, which want gradients; teacher's states and head; labels."""
    student = torch.randn(*shape, STUDENT, dtype=dtype, requires_grad=True)
    student_head = torch.randn(VOCAB, STUDENT, dtype=dtype, requires_grad=True)
    teacher = torch.randn(*shape, TEACHER, dtype=dtype)
    teacher_head = torch.randn(VOCAB, TEACHER, dtype=dtype)
    labels = torch.randint(VOCAB, shape)
    labels[torch.rand(shape) < ignored] = IGNORED
    return student, student_head, teacher, teacher_head, labels


def log_softmaxes(args: Arguments, temperature: float) -> tuple[Tensor, Tensor]:
    """log p of the teacher and log q of the student, [..., V], differentiable."""
    student, student_head, teacher, teacher_head, _ = args
    logp = F.log_softmax(teacher @ teacher_head.t() / temperature, -1)
    return logp, F.log_softmax(student @ student_head.t() / temperature, -1)


def oracle(args: Arguments, temperature: float) -> Tensor:
    logp, logq = log_softmaxes(args, temperature)
    kl = F.kl_div(logq, logp, log_target=True, reduction="none").sum(-1)
    return (temperature**2 * kl).masked_fill(args[-1] == IGNORED, 0)


def top_k_oracle(args: Arguments, k: int, temperature: float) -> Tensor:
    """Both distributions with all but the teacher's k likeliest tokens summed up."""
    logp, logq = log_softmaxes(args, temperature)
    ids = logp.topk(k).indices
    p, q = (
        torch.cat([probs.gather(-1, ids), 1 - probs.gather(-1, ids).sum(-1, keepdim=True)], -1)
        for probs in (logp.exp(), logq.exp())
    )
    kl = (p * (p.log() - q.log())).sum(-1)
    return (temperature**2 * kl).masked_fill(args[-1] == IGNORED, 0)


def taught(args: Arguments, k: int, temperature: float = 1.0) -> TopK:
    _, _, teacher, teacher_head, labels = args
    return top_k(teacher[labels != IGNORED], teacher_head, k, temperature=temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_forward_kl_is_the_plain_formula_whatever_the_chunk(
    rows: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.loss, "chunk_rows", lambda _vocab, **_: rows)
    args = arguments(3, 7)
    losses = forward_kl(*args, temperature=temperature)
    plain = oracle(args, temperature)
    torch.testing.assert_close(losses.per_token, plain, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(losses.total, plain.sum(), rtol=1e-12, atol=1e-13)
    assert losses.count == int((args[-1] != IGNORED).sum())
    for scale in (1.0, 0.25):  # the gradient that comes from above
        ours = torch.autograd.grad(losses.total * scale, args[:2], retain_graph=True)
        expected = torch.autograd.grad(plain.sum() * scale, args[:2], retain_graph=True)
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_top_k_kl_is_the_plain_formula_whatever_the_chunk(
    rows: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.loss, "chunk_rows", lambda _vocab, **_: rows)
    args = arguments(3, 7)
    top = taught(args, 5, temperature)
    losses = top_k_kl(*args[:2], top, args[-1], temperature=temperature)
    plain = top_k_oracle(args, 5, temperature)
    torch.testing.assert_close(losses.per_token, plain, rtol=1e-9, atol=1e-12)
    ours = torch.autograd.grad(losses.total, args[:2])
    expected = torch.autograd.grad(plain.sum(), args[:2])
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("k", [1, 4, 12, VOCAB - 1])
def test_top_k_kl_lies_below_the_whole_by_the_divergence_of_the_tails(k: int, temperature: float) -> None:
    args = arguments(40, ignored=0)
    logp, logq = log_softmaxes(args, temperature)
    ids = logp.topk(k).indices
    tail_p, tail_q = (values.scatter(1, ids, -math.inf) for values in (logp, logq))
    within = F.kl_div(
        F.log_softmax(tail_q, 1).scatter(1, ids, 0.0),
        F.log_softmax(tail_p, 1).scatter(1, ids, -math.inf),
        log_target=True,
        reduction="none",
    )
    gap = temperature**2 * tail_p.exp().sum(1) * within.scatter(1, ids, 0.0).sum(1)
    whole = forward_kl(*args, temperature=temperature)
    part = top_k_kl(*args[:2], taught(args, k, temperature), args[-1], temperature=temperature)
    torch.testing.assert_close(whole.per_token - part.per_token, gap, rtol=1e-8, atol=1e-11)
    assert bool((gap >= -1e-12).all())
    if k < VOCAB - 1:
        assert bool((gap > 0).all())


@pytest.mark.parametrize("k", [1, 4, 12])
def test_the_gradients_by_logits_differ_by_at_most_twice_the_tail(k: int) -> None:
    _, _, teacher, teacher_head, _ = args = arguments(40, ignored=0)
    logits = torch.randn(40, VOCAB, dtype=torch.float64, requires_grad=True)
    head = torch.eye(VOCAB, dtype=torch.float64)
    top = taught(args, k, 2.0)
    whole = forward_kl(logits, head, teacher, teacher_head, args[-1], temperature=2.0)
    part = top_k_kl(logits, head, top, args[-1], temperature=2.0)
    (by_whole,), (by_part,) = (torch.autograd.grad(losses.total, logits) for losses in (whole, part))
    distance = (by_whole - by_part).abs().sum(1)
    assert bool((distance <= 2 * 2.0 * top.logprobs_nk1[:, -1].exp() + 1e-12).all())
    assert bool((distance > 0).all())


def test_gradchecks() -> None:
    args = arguments(5)
    top = taught(args, 3, 2.0)
    assert torch.autograd.gradcheck(
        lambda hidden, head: forward_kl(hidden, head, *args[2:], temperature=2.0).total, args[:2]
    )
    assert torch.autograd.gradcheck(
        lambda hidden, head: top_k_kl(hidden, head, top, args[-1], temperature=2.0).total, args[:2]
    )


def test_never_more_logits_than_a_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of either model, whether the whole divergence or a part of it is asked for."""
    held: list[int] = []

    def watched(hidden_nD: Tensor, weight_VD: Tensor) -> Tensor:
        held.append(len(hidden_nD))
        return linear(hidden_nD, weight_VD)

    monkeypatch.setattr(model.loss, "chunk_rows", lambda _vocab, **_: 4)
    for module in (model.loss, model.logprobs):
        monkeypatch.setattr(module, "linear", watched)
    args = arguments(30, ignored=0)
    forward_kl(*args).total.backward()
    top_k_kl(*args[:2], taught(args, 3), args[-1]).total.backward()
    assert held == [*[4] * 14, 2, 2, *[4] * 7, 2, *[4] * 7, 2]


def test_a_student_that_is_its_teacher_loses_nothing() -> None:
    _, _, teacher, head, labels = arguments(9)
    student = teacher.clone().requires_grad_()
    losses = forward_kl(student, head, teacher, head, labels)
    assert losses.per_token.abs().max() < 1e-14
    assert torch.autograd.grad(losses.total, student)[0].abs().max() < 1e-14


def test_nothing_to_learn_is_zero_and_has_zero_gradients() -> None:
    args = arguments(4, ignored=1.1)
    for losses in (forward_kl(*args), top_k_kl(*args[:2], taught(args, 3), args[-1])):
        assert (losses.total.item(), losses.count) == (0.0, 0)
        for gradient in torch.autograd.grad(losses.total, args[:2]):
            assert not gradient.any()


def test_ignored_tokens_leave_no_trace() -> None:
    """Not even where the hidden states of either are far out."""
    student, student_head, teacher, teacher_head, labels = arguments(6)
    labels[2] = IGNORED
    wild, wild_teacher = student.detach().clone(), teacher.clone()
    wild[2], wild_teacher[2] = 1e200, math.nan
    wild.requires_grad_()
    plain = forward_kl(student, student_head, teacher, teacher_head, labels)
    changed = forward_kl(wild, student_head, wild_teacher, teacher_head, labels)
    assert torch.equal(plain.total, changed.total)
    by_plain = torch.autograd.grad(plain.total, (student, student_head))
    by_changed = torch.autograd.grad(changed.total, (wild, student_head))
    assert all(map(torch.equal, by_plain, by_changed))


def test_the_teacher_gets_no_gradient() -> None:
    student, student_head, teacher, teacher_head, labels = arguments(6)
    teacher.requires_grad_(), teacher_head.requires_grad_()
    forward_kl(student, student_head, teacher, teacher_head, labels).total.backward()
    assert teacher.grad is None
    assert teacher_head.grad is None
    assert student.grad is not None


def test_certain_models_neither_overflow_nor_give_nan() -> None:
    """Probabilities that underflow, and a student that is certain of something else."""
    student, student_head, teacher, teacher_head, labels = arguments(6, dtype=torch.float32, ignored=0)
    top = top_k(teacher * 1e3, teacher_head, 3)
    for losses in (
        forward_kl(student * 1e3, student_head, teacher * 1e3, teacher_head, labels),
        top_k_kl(student * 1e3, student_head, top, labels),
    ):
        assert bool(losses.per_token.isfinite().all())
        assert all(
            bool(g.isfinite().all()) for g in torch.autograd.grad(losses.total, (student, student_head))
        )


@pytest.mark.parametrize("teacher_dtype", [torch.float32, torch.bfloat16])
def test_bfloat16_states_and_float32_head(teacher_dtype: torch.dtype) -> None:
    """Reduced in float32; gradients in the dtypes of what they belong to."""
    student, student_head, teacher, teacher_head, labels = args = arguments(64, dtype=torch.float32)
    narrow = student.detach().bfloat16().requires_grad_()
    theirs = teacher.to(teacher_dtype), teacher_head.to(teacher_dtype)
    losses = forward_kl(narrow, student_head, *theirs, labels)
    assert losses.total.dtype == torch.float32
    gradients = torch.autograd.grad(losses.total, (narrow, student_head))
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32]
    wide = forward_kl(*args)
    torch.testing.assert_close(losses.total, wide.total, rtol=2e-2, atol=0)
    expected = torch.autograd.grad(wide.total, (student, student_head))
    for gradient, reference in zip(gradients, expected, strict=True):
        assert (gradient.float() - reference).norm() / reference.norm() < 2e-2


def test_float32_is_as_near_to_float64_as_its_rounding() -> None:
    wide = arguments(64)
    narrow = tuple(t.detach().float() if t.is_floating_point() else t for t in wide)
    narrow[0].requires_grad_(), narrow[1].requires_grad_()
    losses, reference = forward_kl(*narrow), oracle(wide, 1.0)
    torch.testing.assert_close(losses.per_token.double(), reference.detach(), rtol=2e-5, atol=1e-6)
    gradients = torch.autograd.grad(losses.total, narrow[:2])
    for gradient, expected in zip(gradients, torch.autograd.grad(reference.sum(), wide[:2]), strict=True):
        assert float((gradient - expected).abs().max() / expected.abs().max()) < 1e-6
