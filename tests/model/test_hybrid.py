"""The network as a whole: precision rules, the linear layers, what trains."""

import pytest
import torch
import torch.nn.functional as F

from model import HybridConfig, HybridLM
from model.kernels.choice import describe
from model.kernels.matmul import input_gradient, linear, weight_gradient
from tests.model.miniatures import MINIATURES, miniature, random_ids, randomized


@pytest.mark.parametrize("rows", [1, 5, 31, 32, 33, 200])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_equals_torch(rows: int, bias: bool, dtype: torch.dtype) -> None:
    """On either side of the number of rows where another library takes over; strided inputs too."""
    wide = torch.randn(2, rows, 24, dtype=dtype)
    x = wide[..., 3:20].requires_grad_()
    weight = torch.randn(9, 17, dtype=dtype, requires_grad=True)
    b = torch.randn(9, dtype=dtype, requires_grad=True) if bias else None
    inputs = [value for value in (x, weight, b) if value is not None]
    upstream = torch.randn(2, rows, 9, dtype=dtype)
    ours, expected = linear(x, weight, b), F.linear(x, weight, b)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)
    for gradient, reference in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
        strict=True,
    ):
        assert (gradient - reference).norm() / reference.norm() < tolerance


@pytest.mark.parametrize("rows", [5, 64])
def test_gradients_of_products_are_those_of_linear(rows: int) -> None:
    x, weight = torch.randn(rows, 17, requires_grad=True), torch.randn(9, 17, requires_grad=True)
    upstream = torch.randn(rows, 9)
    expected = torch.autograd.grad(F.linear(x, weight), (x, weight), upstream)
    ours = (input_gradient(upstream, weight.detach()), weight_gradient(upstream, x.detach()))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MINIATURES)
def test_parameters_are_named_as_on_disk(name: str) -> None:
    """INTEROP.md 1.2."""
    config = MINIATURES[name]
    kinds = {
        "M": ["in_proj.weight", "conv1d.weight", "A_log", "D", "dt_bias", "norm.weight", "out_proj.weight"]
        + ["in_proj.bias", "out_proj.bias"] * config.use_bias
        + ["conv1d.bias"] * config.use_conv_bias,
        "*": [f"{letter}_proj.weight" for letter in "qkvo"],
        "-": ["up_proj.weight", "down_proj.weight"] + ["up_proj.bias", "down_proj.bias"] * config.mlp_bias,
    }
    expected = {"backbone.embeddings.weight", "backbone.norm_f.weight", "lm_head.weight"}
    for index, letter in enumerate(config.pattern):
        block = f"backbone.layers.{index}"
        expected |= {f"{block}.norm.weight", *(f"{block}.mixer.{part}" for part in kinds[letter])}
    with torch.device("meta"):
        lm = HybridLM(config, initialize=False)
    assert set(lm.state_dict()) == expected


def test_bfloat16_products_over_float32_masters() -> None:
    """compute_dtype: close to float32, gradients in float32, logits and losses in float32."""
    lm = randomized(miniature("M-*-M"))
    ids = random_ids(lm.config, 2, 40)
    expected = lm(ids).logits
    lm.compute_dtype = torch.bfloat16
    hidden = lm.hidden_states(ids)
    logits = lm(ids).logits
    assert (hidden.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    assert (logits - expected).norm() / expected.norm() < 3e-2
    logits.square().sum().backward()
    for name, parameter in lm.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all(), name


def test_gradients_of_bfloat16_products_point_the_same_way() -> None:
    lm = randomized(miniature("M-*-M"))
    ids = random_ids(lm.config, 2, 40)

    def gradients() -> list[torch.Tensor]:
        loss = F.cross_entropy(lm(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        return list(torch.autograd.grad(loss, list(lm.parameters())))

    wide = gradients()
    lm.compute_dtype = torch.bfloat16
    for (name, _), narrow, reference in zip(lm.named_parameters(), gradients(), wide, strict=True):
        cosine = F.cosine_similarity(narrow.flatten(), reference.flatten(), dim=0)
        assert cosine > 0.99, (name, cosine.item())


def test_every_parameter_learns() -> None:
    lm = randomized(miniature("M-*-M", use_bias=True, mlp_bias=True))
    ids = torch.arange(lm.config.vocab_size).repeat(2)[None]
    lm(ids).logits.square().sum().backward()
    for name, parameter in lm.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_gradients_against_finite_differences() -> None:
    """The whole network in float64, along random directions."""
    lm = randomized(miniature("M*-"), dtype=torch.float64)
    ids, documents = random_ids(lm.config, 1, 24), torch.tensor([[0] * 9 + [1] * 15])
    parameters = list(lm.parameters())

    def loss() -> torch.Tensor:
        return lm(ids, documents).logits.sin().sum()

    gradients = torch.autograd.grad(loss(), parameters)
    step = 1e-6
    with torch.no_grad():
        for (name, parameter), gradient in zip(lm.named_parameters(), gradients, strict=True):
            direction = torch.randn_like(parameter)
            parameter += step * direction
            up = loss()
            parameter -= 2 * step * direction
            down = loss()
            parameter += step * direction
            slope = (gradient * direction).sum().item()
            assert ((up - down) / (2 * step)).item() == pytest.approx(slope, rel=1e-5, abs=1e-6), name


def test_causality() -> None:
    """A token changes no earlier logit."""
    lm = randomized(MINIATURES["width-unlike-expand"])
    ids = random_ids(lm.config, 1, 40)
    with torch.no_grad():
        before = lm(ids).logits
        for position in (39, 20, 16, 1):
            changed = ids.clone()
            changed[0, position] = (ids[0, position] + 1) % lm.config.vocab_size
            after = lm(changed).logits
            assert torch.equal(after[:, :position], before[:, :position])
            assert not torch.equal(after[:, position], before[:, position])


def test_presets_build_on_the_meta_device() -> None:
    with torch.device("meta"):
        lm = HybridLM(HybridConfig.preset("nano2-12b"))
    assert lm.device.type == "meta"
    assert sum(parameter.numel() for parameter in lm.parameters()) == 12_310_001_152


def test_described_kernels_name_every_operation() -> None:
    operations = [path.operation for path in describe("cpu", torch.float32)]
    assert len(operations) == len(set(operations)) >= 5
    assert all(path.path and path.reason for path in describe("cpu", torch.bfloat16))
