"""The three products of a layer against their formula, and what is kept between them."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.kernels.matmul import linear
from model.precision.emulation import BLOCK, Emulation, Operand, quantize
from model.precision.product import Product
from model.precision.scaling import Scaling

SCALINGS: list[Scaling] = ["blocks", "tensor"]


def operands(tokens: int = 192, dtype: torch.dtype = torch.float32) -> tuple[Tensor, nn.Parameter, Tensor]:
    """x [2, tokens / 2, 80], W [48, 80] and dy [2, tokens / 2, 48], of unlike sizes from token to token and row to row."""
    x = torch.randn(2, tokens // 2, 80) * torch.logspace(-2, 2, tokens // 2)[:, None]
    grad = torch.randn(2, tokens // 2, 48) * torch.logspace(1, -3, tokens // 2)[:, None]
    return x.to(dtype).requires_grad_(), nn.Parameter(torch.randn(48, 80) / 9), grad.to(dtype)


def rounded(matrix: Tensor, rows: int, columns: int, scaling: Scaling) -> Tensor:
    """A matrix as its quantized numbers are, in blocks of so many rows and columns."""
    block = (rows, columns) if scaling == "blocks" else (matrix.shape[0], matrix.shape[1])
    return quantize(matrix, block, power_of_two=scaling == "blocks").wide()


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [192, 130, 2])
def test_output_and_gradients_are_products_of_what_is_quantized_along_each(
    tokens: int, dtype: torch.dtype, scaling: Scaling
) -> None:
    x, weight, grad = operands(tokens, dtype)
    y = Product(Emulation(scaling))(x, weight)
    y.backward(grad)
    x_nD, grad_nF = x.detach().flatten(0, 1), grad.flatten(0, 1)
    square = rounded(weight.detach(), BLOCK, BLOCK, scaling)
    expected_y = rounded(x_nD, 1, BLOCK, scaling) @ square.t()
    expected_dx = rounded(grad_nF, 1, BLOCK, scaling) @ square
    expected_dw = rounded(grad_nF, BLOCK, 1, scaling).t() @ rounded(x_nD, BLOCK, 1, scaling)
    assert (y.dtype, x.grad.dtype, weight.grad.dtype) == (dtype, dtype, torch.float32)
    torch.testing.assert_close(y.flatten(0, 1), expected_y.to(dtype))
    torch.testing.assert_close(x.grad.flatten(0, 1), expected_dx.to(dtype))
    torch.testing.assert_close(weight.grad, expected_dw, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_fp8_is_near_the_product_that_it_stands_for(scaling: Scaling) -> None:
    x, weight, grad = operands()
    results = []
    for product in (Product(Emulation(scaling)), linear):
        x.grad = weight.grad = None
        y = product(x, weight)
        y.backward(grad)
        results.append((y.detach(), x.grad, weight.grad))
    for ours, exact in zip(*results, strict=True):
        assert 0.005 < (ours - exact).norm() / exact.norm() < 0.06


def test_gradients_of_micro_batches_are_added_in_float32() -> None:
    x, weight, grad = operands(dtype=torch.bfloat16)
    product = Product(Emulation("blocks"))
    product(x, weight).backward(grad)
    once = weight.grad.clone()
    kept = weight.grad
    product(x, weight).backward(grad)
    assert weight.grad is kept  # added in place, within the product
    torch.testing.assert_close(weight.grad, 2 * once, rtol=0, atol=0)


class Counting(Emulation):
    weights = 0

    def quantize_weight(self, weight_FD: Tensor) -> Operand:
        self.weights += 1
        return super().quantize_weight(weight_FD)


def test_a_weight_is_quantized_once_a_step_and_anew_behind_it() -> None:
    x, weight, _ = operands()
    arithmetic = Counting("blocks")
    product = Product(arithmetic)
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    for step in range(1, 4):
        for _ in range(3):
            y = product(x, weight)
            y.sum().backward()
        assert arithmetic.weights == step
        assert torch.equal(y, Product(Emulation("blocks"))(x, weight))
        optimizer.step()
    with torch.no_grad():
        weight.detach().zero_()  # as a state is loaded
    assert not product(x, weight).any()


def test_a_weight_that_comes_and_goes_is_quantized_for_each_pass() -> None:
    x, weight, grad = operands()
    arithmetic = Counting("blocks")
    results = []
    for product in (Product(arithmetic, keep_weight=False), Product(Emulation("blocks"))):
        x.grad = weight.grad = None
        for _ in range(2):
            y = product(x, weight)
            y.backward(grad)
        results.append((y.detach(), x.grad, weight.grad))
    assert arithmetic.weights == 4
    for there, here in zip(*results, strict=True):
        assert torch.equal(there, here)


def test_an_input_is_held_as_eight_bits_until_its_weight_gradient() -> None:
    x, weight, _ = operands(dtype=torch.bfloat16)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        Product(Emulation("blocks"))(x, weight)
    sizes = {tuple(t.shape): t.dtype for t in saved if t is not weight}
    assert sizes == {(192, 80): torch.float8_e4m3fn, (2, 80): torch.float32}


def test_what_is_computed_again_is_the_same_and_keeps_nothing() -> None:
    x, weight, grad = operands()
    product = Product(Emulation("blocks"))
    product(x, weight).backward(grad)
    expected = (x.grad.clone(), weight.grad.clone())
    x.grad = weight.grad = None
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = checkpoint(product, x, weight, use_reentrant=False)
    assert all(t is x or t is weight for t in saved)
    y.backward(grad)
    assert torch.equal(x.grad, expected[0])
    assert torch.equal(weight.grad, expected[1])


def test_without_gradients_the_product_is_the_models_own() -> None:
    x, weight, _ = operands(dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(Product(Emulation("blocks"))(x, weight), linear(x, weight))
