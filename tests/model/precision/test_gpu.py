"""Transformer Engine against the emulation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.artifact.weights import CheckpointFiles
from model.hybrid import HybridLM
from model.loading import load, save
from model.precision.emulation import Emulation
from model.precision.layers import has_fp8, products, use_fp8
from model.precision.product import Product
from model.precision.scaling import Scaling
from tests.model.miniatures import miniature, randomized
from tests.model.precision.test_eligibility import WIDE
from tests.model.precision.test_layers import step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

SCALINGS: list[Scaling] = ["blocks", "tensor"]


@pytest.fixture(params=SCALINGS)
def scaling(request: pytest.FixtureRequest) -> Scaling:
    pytest.importorskip("transformer_engine.pytorch")
    found: Scaling = request.param
    return found


def engine(scaling: Scaling) -> Any:
    from model.precision.transformer_engine import TransformerEngine

    return TransformerEngine(scaling)


def relative(ours: Tensor, exact: Tensor) -> float:
    return float((ours.float() - exact.float()).norm() / exact.float().norm())


def by_column(operand: Any, scaling: Scaling) -> Tensor:
    """Dequantized numbers of the copy with the tokens inside."""
    parts = operand.get_metadata()
    if scaling == "blocks":
        return type(operand)(**parts | {"rowwise_data": None, "rowwise_scale_inv": None}).dequantize(
            dtype=torch.float32
        )
    return (parts["data_transpose"].view(torch.float8_e4m3fn).float() * parts["fp8_scale_inv"]).t()


@pytest.mark.parametrize("kind", ["input", "gradient", "weight"])
def test_its_quantized_numbers_are_those_of_the_emulation(kind: str, scaling: Scaling) -> None:
    x = torch.randn(384, 272, device="cuda") * torch.logspace(-6, 3, 272, device="cuda")
    x[:130, :129] = 0
    x = x if kind == "weight" else x.bfloat16()
    ours, theirs = (
        getattr(arithmetic, f"quantize_{kind}")(x) for arithmetic in (Emulation(scaling), engine(scaling))
    )
    assert torch.equal(theirs.dequantize(dtype=torch.float32), ours.by_row.wide())
    assert torch.equal(by_column(theirs, scaling), ours.by_column.wide())


@pytest.mark.parametrize("tokens", [512, 300])
def test_its_products_are_those_of_the_emulation(tokens: int, scaling: Scaling) -> None:
    x = torch.randn(tokens, 272, device="cuda").bfloat16()
    weight = torch.randn(144, 272, device="cuda") / 16
    grad = torch.randn(tokens, 144, device="cuda").bfloat16()
    results = []
    for arithmetic in (engine(scaling), Emulation(scaling)):
        leaf, parameter = x.clone().requires_grad_(), nn.Parameter(weight.clone())
        product = Product(arithmetic)
        y = product(leaf, parameter)
        y.backward(grad)
        once = parameter.grad.clone()
        product(leaf, parameter).backward(grad)  # added to the first
        results.append((y.detach(), leaf.grad / 2, once, parameter.grad / 2))
    theirs, ours = results
    assert relative(theirs[0], ours[0]) < 4e-3  # of a bfloat16
    assert relative(theirs[1], ours[1]) < 4e-3
    assert relative(theirs[2], ours[2]) < 2e-3  # sums within a product have fewer bits than float32
    assert relative(theirs[3], theirs[2]) < 1e-6


def test_a_training_step_is_that_of_the_emulation_also_when_blocks_are_computed_again(
    scaling: Scaling,
) -> None:
    lm = randomized(miniature("M-M*-M-", **WIDE)).cuda()
    lm.compute_dtype = torch.bfloat16
    assert use_fp8(lm, scaling) == "Transformer Engine"
    loss, gradients = step(lm)
    lm.recompute = frozenset("M*-")
    again, gradients_again = step(lm)
    assert again == pytest.approx(loss, rel=1e-5)
    for _, layer in products(lm):
        layer.product = Product(Emulation(scaling))
    emulated, expected = step(lm)
    assert loss == pytest.approx(emulated, rel=1e-3)
    for name, gradient in expected.items():
        assert relative(gradients[name], gradient) < 0.1, name
        assert relative(gradients_again[name], gradients[name]) < 0.02, name


def test_its_artifact_loads_without_it(scaling: Scaling, tmp_path: Path) -> None:
    lm = randomized(miniature("M-M*-M-", **WIDE)).cuda()
    lm.compute_dtype = torch.bfloat16
    use_fp8(lm, scaling)
    step(lm)
    save(lm, tmp_path)
    plain = HybridLM(lm.config, initialize=False)
    assert sorted(CheckpointFiles(tmp_path).keys()) == sorted(plain.state_dict()) == sorted(lm.state_dict())
    assert not has_fp8(load(tmp_path))
