"""The Triton kernels against the PyTorch ones in float64, in Triton's interpreter on the CPU."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.documents import Documents
from model.kernels.normalization import _RMSNorm
from model.kernels.scan import chunked_scan
from model.loss import IGNORED
from tests.peers.mamba_ssm_oracle import CHUNK

ROOT = Path(__file__).parents[3]
PEER = ROOT / ".peers" / "mamba_ssm"

pytestmark = pytest.mark.skipif(
    not (PEER / "installed").is_file(), reason=f"{PEER} is absent: run tests/peers/install_mamba_ssm.sh"
)

# tokens, channels, groups, gated?, dtype of x and gate, dtype of the result
NORMS = {
    "plain": (5, 48, 1, False, torch.float32, torch.float32),
    "gated": (7, 48, 4, True, torch.float32, torch.float32),
    "one token": (1, 20, 2, True, torch.float32, torch.float32),
    "float32 stream, bfloat16 block": (6, 33, 1, False, torch.float32, torch.bfloat16),
    "bfloat16": (6, 40, 2, True, torch.bfloat16, torch.bfloat16),
}
SCANS = {"one document": (3 * CHUNK + 5, ()), "documents": (2 * CHUNK + 9, (5, CHUNK + 9, CHUNK - 5))}
VOCABULARIES = {"one block": 50, "several blocks": 3 * 8192 + 17}
BOUND = {torch.float32: 2e-6, torch.bfloat16: 8e-3}

Results = dict[str, list[Tensor]]
Case = tuple[str, list[Any], Tensor | None]


def _norm_case(
    tokens: int, channels: int, groups: int, gated: bool, dtype: torch.dtype, out: torch.dtype
) -> Case:
    wide = torch.randn(2, tokens, 2 * channels + 8, dtype=dtype)  # both are slices, as in a Mamba block
    x = wide[..., :channels].requires_grad_()
    gate = wide[..., channels : 2 * channels].detach().requires_grad_() if gated else None
    weight = torch.randn(channels, requires_grad=True)
    return "norm", [x, gate, weight, 1e-5, groups, out], torch.randn(2, tokens, channels, dtype=out)


def _scan_case(length: int, documents: tuple[int, ...]) -> Case:
    seq_idx = None
    if documents:
        runs = torch.repeat_interleave(torch.arange(len(documents)), torch.tensor(documents))
        seq_idx = runs.to(torch.int32).expand(2, -1).contiguous()
    arguments = [
        torch.randn(2, length, 4, 8),
        torch.randn(2, length, 4),
        -torch.rand(4) * 8 - 0.2,
        torch.randn(2, length, 2, 16),
        torch.randn(2, length, 2, 16),
        torch.randn(4),
        torch.randn(4) - 2,
        seq_idx,
    ]
    return "scan", arguments, torch.randn(2, length, 4, 8)


def _cases() -> dict[str, Case]:
    torch.manual_seed(0)
    cases = {name: _norm_case(*arguments) for name, arguments in NORMS.items()}
    for name, vocabulary in VOCABULARIES.items():
        labels = torch.randint(0, vocabulary, (5,))
        labels[2] = IGNORED
        cases[name] = ("cross_entropy", [torch.randn(5, vocabulary) * 5, labels, IGNORED], None)
    broken = torch.randn(3, 50)
    broken[0, 7], broken[1, 9] = torch.nan, torch.inf
    cases["broken logits"] = ("cross_entropy", [broken, torch.tensor([1, 2, 3]), IGNORED], None)
    h = torch.randn(3, 1000)
    h[0, 0], h[0, 1] = torch.nan, -torch.inf
    stream = [torch.randn(2, 5, 40, requires_grad=True), torch.randn(40, requires_grad=True), 1e-5]
    cases["residual"] = (
        "residual",
        [*stream, torch.randn(2, 5, 40, requires_grad=True)],
        torch.randn(2, 5, 40),
    )
    cases |= {name: _scan_case(*arguments) for name, arguments in SCANS.items()}
    cases["squared"] = ("squared_relu", [h], torch.randn(3, 1000))
    return cases


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return _cases()


@pytest.fixture(scope="module")
def results(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("interpreted")
    torch.save(list(cases.values()), folder / "inputs.pt")
    paths = os.pathsep.join([str(PEER), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "TRITON_INTERPRET": "1", "MAMBA_DETERMINISTIC": "1"}
    script = Path(__file__).with_name("interpreted.py")
    subprocess.run(
        [sys.executable, str(script), str(folder / "inputs.pt"), str(folder / "outputs.pt")],
        env=environment,
        check=True,
        timeout=120,
    )
    return dict(zip(cases, torch.load(folder / "outputs.pt"), strict=True))


def _close(ours: Tensor, exact: Tensor, bound: float) -> None:
    assert (ours.double() - exact).norm() <= bound * exact.norm()


@pytest.mark.parametrize("name", NORMS)
def test_norms_and_their_gradients(name: str, cases: dict[str, Case], results: Results) -> None:
    _, (x, gate, weight, eps, groups, out), upstream = cases[name]
    leaves = [t.detach().double().requires_grad_() for t in (x, gate, weight) if t is not None]
    exact_gate = leaves[1] if gate is not None else None
    exact = _RMSNorm.apply(leaves[0], exact_gate, leaves[-1], eps, groups, torch.float64)
    expected = [exact.detach(), *torch.autograd.grad(exact, leaves, upstream.double())]
    ours = results[name]
    assert [t.dtype for t in (ours[0], ours[1], ours[-1])] == [out, x.dtype, torch.float32]
    bounds = [BOUND[out], *[BOUND[x.dtype]] * (len(ours) - 2), BOUND[torch.float32]]
    for value, truth, bound in zip(ours, expected, bounds, strict=True):
        _close(value, truth, bound)


@pytest.mark.parametrize("name", SCANS)
def test_chunk_scan_and_its_gradients(name: str, cases: dict[str, Case], results: Results) -> None:
    """With the states between chunks kept, by documents too."""
    _, (x, dt, A, B, C, D, dt_bias, seq_idx), upstream = cases[name]
    A_log = (-A).log()
    leaves = [t.double().requires_grad_() for t in (x, dt, A_log, B, C, D, dt_bias)]
    documents = None if seq_idx is None else Documents(seq_idx.long())
    y, _ = chunked_scan(*leaves, CHUNK, documents)
    assert upstream is not None
    gradients = list(torch.autograd.grad(y, leaves, upstream.double()))
    gradients[2] = gradients[2] / A.double()  # by A itself
    for value, truth in zip(results[name], [y.detach(), *gradients], strict=True):
        _close(value, truth, 2e-5)


def test_gradients_of_a_stream_and_of_its_norm_are_added_up(cases: dict[str, Case], results: Results) -> None:
    _, (x, weight, eps, delta), upstream = cases["residual"]
    leaves = [t.detach().double().requires_grad_() for t in (x, weight, delta)]
    exact = leaves[0] + _RMSNorm.apply(leaves[0], None, leaves[1], eps, 1, torch.float64) * leaves[2]
    assert upstream is not None
    expected = [exact.detach(), *torch.autograd.grad(exact, leaves, upstream.double())]
    for value, truth in zip(results["residual"], expected, strict=True):
        _close(value, truth, BOUND[torch.float32])


@pytest.mark.parametrize("name", VOCABULARIES)
def test_cross_entropy_and_its_gradient(name: str, cases: dict[str, Case], results: Results) -> None:
    _, (logits, labels, _), _ = cases[name]
    exact = logits.double().requires_grad_()
    losses = F.cross_entropy(exact, labels, ignore_index=IGNORED, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), exact)
    ours, our_gradient = results[name]
    _close(ours, losses.detach(), 1e-6)
    _close(our_gradient, gradient, 1e-6)
    assert ours[2] == 0
    assert not our_gradient[2].any()


def test_logits_that_are_not_finite_make_a_loss_that_is_not(results: Results) -> None:
    losses, _ = results["broken logits"]
    assert torch.isfinite(losses).tolist() == [False, False, True]


def test_squared_relu_and_its_gradient(cases: dict[str, Case], results: Results) -> None:
    _, (h,), upstream = cases["squared"]
    squares, squares_again, gradient = results["squared"]
    assert upstream is not None
    for ours in (squares, squares_again):
        torch.testing.assert_close(ours, torch.relu(h).square(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(gradient, 2 * torch.relu(h) * upstream, equal_nan=True)
