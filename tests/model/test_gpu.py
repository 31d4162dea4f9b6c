"""The core on a CUDA device: the same numbers as on the CPU, in every path."""

import pytest
import torch

from model import HybridConfig, HybridLM
from model.loss import next_token_labels, token_cross_entropy

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

CONFIG = HybridConfig.preset("tiny", pattern="M-M*-M*-")


@pytest.fixture(autouse=True)
def _exact_float32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, CONFIG.vocab_size, (2, 53))


@pytest.fixture
def documents() -> torch.Tensor:
    return torch.tensor([[0] * 20 + [1] * 33, [0] * 16 + [1] * 5 + [2] * 32])


def step(lm: HybridLM, ids: torch.Tensor, documents: torch.Tensor) -> dict[str, torch.Tensor]:
    ids, documents = ids.to(lm.device), documents.to(lm.device)
    labels = next_token_labels(ids, documents)
    token_cross_entropy(lm.hidden_states(ids, documents), lm.lm_head.weight, labels).total.backward()
    return {name: p.grad.cpu() for name, p in lm.named_parameters() if p.grad is not None}


def test_logits_and_gradients_of_packed_documents_equal_the_cpus(
    ids: torch.Tensor, documents: torch.Tensor
) -> None:
    lm = HybridLM(CONFIG)
    logits, gradients = lm(ids, documents).logits.detach(), step(lm, ids, documents)
    lm.zero_grad()
    lm.cuda()
    torch.testing.assert_close(
        lm(ids.cuda(), documents.cuda()).logits.detach().cpu(), logits, atol=1e-4, rtol=1e-4
    )
    for name, gradient in step(lm, ids, documents).items():
        error = (gradient - gradients[name]).norm() / gradients[name].norm()
        assert error < 1e-3, name


def test_a_document_does_not_depend_on_another_to_the_last_bit(
    ids: torch.Tensor, documents: torch.Tensor
) -> None:
    lm = HybridLM(CONFIG).cuda()
    changed = ids.clone()
    changed[0, :20] = (changed[0, :20] + 7) % CONFIG.vocab_size
    with torch.no_grad():
        before, after = (lm(x.cuda(), documents.cuda()).logits[0, 20:] for x in (ids, changed))
    assert torch.equal(before, after)


@torch.no_grad()
def test_cached_decode_equals_the_full_forward(ids: torch.Tensor) -> None:
    lm = HybridLM(CONFIG).cuda().eval()
    ids = ids.cuda()
    state = lm.new_state(2)
    parts = [lm(ids[:, :30], state=state).logits] + [
        lm(ids[:, t : t + 1], state=state).logits for t in range(30, 53)
    ]
    torch.testing.assert_close(torch.cat(parts, 1), lm(ids).logits, atol=1e-4, rtol=1e-4)


def test_bfloat16_products_stay_close_to_float32(ids: torch.Tensor, documents: torch.Tensor) -> None:
    lm = HybridLM(CONFIG).cuda()
    wide = lm(ids.cuda(), documents.cuda()).logits.detach()
    lm.compute_dtype = torch.bfloat16
    narrow = lm(ids.cuda(), documents.cuda()).logits.detach()
    assert 0 < (narrow - wide).abs().max() < 0.03 * wide.abs().max()
