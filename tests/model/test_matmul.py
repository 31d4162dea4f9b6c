"""Products of linear layers and their gradients, in every precision, against float64."""

import pytest
import torch
from torch import Tensor

from model.kernels import matmul

BOUND = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}


def products(x_nD: Tensor, weight_FD: Tensor, bias_F: Tensor, grad_nF: Tensor) -> list[Tensor]:
    """Output and gradients, by autograd and by the functions that other kernels' backward passes call."""
    inputs = [t.detach().requires_grad_() for t in (x_nD, weight_FD, bias_F)]
    y_nF = matmul.linear(*inputs)
    extra_nD = x_nD.cos()
    return [
        y_nF.detach(),
        *torch.autograd.grad(y_nF, inputs, grad_nF),
        matmul.input_gradient(grad_nF, weight_FD),
        matmul.weight_gradient(grad_nF, x_nD),
        matmul.input_gradient(grad_nF, weight_FD, times=extra_nD),
        matmul.input_gradient(grad_nF, weight_FD, plus=extra_nD),
    ]


@pytest.mark.parametrize("widened", [True, False])
@pytest.mark.parametrize("dtype", BOUND)
def test_products_and_gradients(dtype: torch.dtype, widened: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With bfloat16 products taken in float32, as on processors without instructions for them, and natively."""
    monkeypatch.setattr(matmul, "_widens", lambda device, dtype: widened and dtype == torch.bfloat16)
    torch.manual_seed(0)
    operands = [torch.randn(*shape).to(dtype) for shape in ((37, 24), (40, 24), (40,), (37, 40))]
    exact = products(*(operand.double() for operand in operands))
    ours = products(*operands)
    assert all(value.dtype == dtype for value in ours)
    for value, truth in zip(ours, exact, strict=True):
        assert (value.double() - truth).norm() <= BOUND[dtype] * truth.norm()


def test_widening_rounds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "_widens", lambda device, dtype: dtype == torch.bfloat16)
    x, weight = torch.randn(9, 300).bfloat16(), torch.randn(50, 300).bfloat16()
    exact = x.double() @ weight.double().t()
    error = (matmul.linear(x, weight).double() - exact).abs()
    assert bool((error <= exact.abs() * 2**-8 + 1e-4).all())
