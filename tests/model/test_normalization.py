"""RMSNorm and the gated grouped RMSNorm against their formulas and autograd; squared ReLU likewise."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.normalization import gated_rms_norm, rms_norm
from model.kernels.squared_relu import squared_relu

EPS = 1e-2  # large enough that forgetting or misplacing it shows


def normalized(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    grouped = x.unflatten(-1, (groups, -1))
    scale = (grouped.square().mean(-1, keepdim=True) + EPS).rsqrt()
    return (grouped * scale).flatten(-2) * weight


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def assert_same_with_gradients(value: Tensor, expected: Tensor, inputs: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    upstream = torch.randn_like(value)
    torch.testing.assert_close(
        torch.autograd.grad(value, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
        rtol=1e-9,
        atol=1e-11,
    )


def test_rms_norm_is_its_formula() -> None:
    x, weight = normal(2, 5, 12), normal(12)
    assert_same_with_gradients(rms_norm(x, weight, EPS), normalized(x, weight), (x, weight))
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, EPS), (x, weight))


@pytest.mark.parametrize("groups", [1, 2, 6, 12])
def test_gated_rms_norm_is_its_formula(groups: int) -> None:
    """Gate first, then the norm of each group by itself."""
    y, gate, weight = normal(2, 5, 12), normal(2, 5, 12), normal(12)
    expected = normalized(y * F.silu(gate), weight, groups)
    assert_same_with_gradients(gated_rms_norm(y, gate, weight, EPS, groups), expected, (y, gate, weight))


def test_gated_rms_norm_gradcheck() -> None:
    y, gate, weight = normal(2, 3, 6), normal(2, 3, 6), normal(6)
    assert torch.autograd.gradcheck(
        lambda y, gate, weight: gated_rms_norm(y, gate, weight, EPS, 3), (y, gate, weight)
    )


def test_gate_may_be_a_strided_slice() -> None:
    y, wide, weight = normal(2, 5, 12), normal(2, 5, 20), normal(12)
    gate = wide[..., 4:16]
    expected = normalized(y * F.silu(gate), weight, 2)
    assert_same_with_gradients(gated_rms_norm(y, gate, weight, EPS, 2), expected, (y, wide, weight))


@pytest.mark.parametrize("gated", [False, True])
def test_statistics_of_bfloat16_are_float32(gated: bool) -> None:
    """One rounding, at the end; and no overflow of the square of a large value."""
    x = (torch.randn(2, 5, 64) * 300).bfloat16()
    gate, weight = torch.randn(2, 5, 64).bfloat16(), torch.randn(64).bfloat16()
    value = gated_rms_norm(x, gate, weight, EPS, 4) if gated else rms_norm(x, weight, EPS)
    wide = x.double() * F.silu(gate.double()) if gated else x.double()
    expected = normalized(wide, weight.double(), 4 if gated else 1)
    assert value.dtype == torch.bfloat16
    assert ((value.double() - expected).abs() <= 2**-8 * expected.abs() + 1e-30).all()


def test_output_dtype_is_asked_for() -> None:
    """Float32 residual stream and masters, bfloat16 products."""
    x, weight = torch.randn(2, 5, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    value = rms_norm(x, weight, EPS, torch.bfloat16)
    assert value.dtype == torch.bfloat16
    torch.testing.assert_close(value.float(), normalized(x, weight), rtol=2**-8, atol=0)
    value.float().sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    assert (x.grad.dtype, weight.grad.dtype) == (torch.float32, torch.float32)


def test_zeros_give_zeros_and_finite_gradients() -> None:
    x, weight = torch.zeros(1, 2, 8, requires_grad=True), torch.ones(8, requires_grad=True)
    value = rms_norm(x, weight, 1e-5)
    value.sum().backward()
    assert torch.equal(value, torch.zeros_like(value))
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_squared_relu() -> None:
    x = normal(3, 7)
    assert_same_with_gradients(squared_relu(x), torch.relu(x).square(), (x,))
    assert torch.autograd.gradcheck(squared_relu, (x,))
