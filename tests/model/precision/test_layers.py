"""A model that multiplies in FP8, by the emulation."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.artifact.weights import CheckpointFiles
from model.hybrid import HybridLM
from model.loading import load, save
from model.loss import next_token_labels, token_cross_entropy
from model.precision.emulation import Emulation, Fp8, Operand
from model.precision.layers import has_fp8, products, use_fp8, without_fp8
from model.precision.product import Product
from model.precision.watch import watched
from tests.model.miniatures import miniature, randomized
from tests.model.precision.test_eligibility import WIDE

CONFIG = miniature("M-M*-M-", **WIDE)
IDS = torch.arange(2 * 37).view(2, 37) * 7 % CONFIG.vocab_size


def fresh() -> HybridLM:
    lm = HybridLM(CONFIG)
    lm.compute_dtype = torch.bfloat16
    return lm


def step(lm: HybridLM) -> tuple[float, Mapping[str, Tensor]]:
    lm.zero_grad()
    ids = IDS.to(lm.device)
    loss = token_cross_entropy(lm.hidden_states(ids), lm.lm_head.weight, next_token_labels(ids)).total
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in lm.named_parameters() if p.grad is not None}


def test_training_stays_near_bfloat16() -> None:
    losses = {}
    for precision in ("bfloat16", "blocks", "tensor"):
        torch.manual_seed(0)
        lm = fresh()
        if precision != "bfloat16":
            use_fp8(lm, precision)
        optimizer = torch.optim.AdamW(lm.parameters(), lr=3e-3, fused=True)
        for _ in range(12):
            losses[precision], _ = step(lm)
            optimizer.step()
    start = IDS.numel() * torch.tensor(float(CONFIG.vocab_size)).log()
    assert losses["bfloat16"] < 0.8 * start
    for precision in ("blocks", "tensor"):
        assert losses[precision] != losses["bfloat16"]
        assert losses[precision] == pytest.approx(losses["bfloat16"], rel=0.03)


def test_the_outer_blocks_compute_what_they_did_to_the_last_bit() -> None:
    lm = randomized(CONFIG)
    lm.compute_dtype = torch.bfloat16
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    for number, block in enumerate(lm.backbone.layers):
        block.register_forward_hook(
            lambda _, given, made, number=number: (
                (
                    inputs.__setitem__(number, given[0].detach()),
                    outputs.__setitem__(number, made.detach()),
                )[0:0]
                or None
            )
        )
    lm.hidden_states(IDS)
    before = dict(outputs)
    use_fp8(lm, "blocks")
    lm.hidden_states(IDS)
    assert [torch.equal(outputs[number], before[number]) for number in range(3)] == [True, True, False]
    with without_fp8(lm):
        for number in (5, 6):
            again = lm.backbone.layers[number](inputs[number], torch.bfloat16)
            assert torch.equal(outputs[number], again)


def test_recomputing_blocks_changes_no_bit() -> None:
    lm = randomized(CONFIG)
    lm.compute_dtype = torch.bfloat16
    use_fp8(lm, "blocks")
    loss, gradients = step(lm)
    lm.recompute = frozenset("M*-")
    again, gradients_again = step(lm)
    assert loss == again
    assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)


def test_parameters_and_checkpoints_do_not_know_of_it(tmp_path: Path) -> None:
    lm = fresh()
    names = [(name, p.dtype, p.data_ptr()) for name, p in lm.named_parameters()]
    use_fp8(lm, "blocks")
    step(lm)
    assert [(name, p.dtype, p.data_ptr()) for name, p in lm.named_parameters()] == names
    assert not list(lm.buffers())
    (tmp_path / "fp8").mkdir()
    save(lm, tmp_path / "fp8")
    with without_fp8(lm):
        assert not has_fp8(lm)
    plain = HybridLM(CONFIG, initialize=False)
    assert list(lm.state_dict()) == list(plain.state_dict())
    assert sorted(CheckpointFiles(tmp_path / "fp8").keys()) == sorted(plain.state_dict())
    assert not has_fp8(load(tmp_path / "fp8"))


class Stuck(Emulation):
    """A quantizer whose scale for gradients has stuck at zero."""

    def quantize_gradient(self, grad_nF: Tensor) -> Operand:
        scale = torch.zeros(1, 1)
        broken = Fp8((grad_nF * scale).to(torch.float8_e4m3fn), scale.reciprocal(), tuple(grad_nF.shape))
        return Operand(broken, broken)


class Overflowing(Emulation):
    def multiply(self, x: Operand, weight: Operand, dtype: torch.dtype) -> Tensor:
        return super().multiply(x, weight, dtype) * float("inf")


@pytest.mark.parametrize(
    ("broken", "layer", "what"),
    [
        (Overflowing, "backbone.layers.2.mixer.out_proj", "its output has "),
        (Stuck, "backbone.layers.3.mixer.k_proj", "the gradient of its "),
        (Stuck, "backbone.layers.4.mixer.up_proj", "the gradient of its "),
    ],
)
def test_the_first_layer_that_goes_wrong_is_named(broken: type[Emulation], layer: str, what: str) -> None:
    lm = randomized(CONFIG)
    lm.compute_dtype = torch.bfloat16
    use_fp8(lm, "blocks")
    with watched(lm) as faults:
        step(lm)
    assert faults == []
    dict(products(lm))[layer].product = Product(broken("blocks"))
    with watched(lm) as faults:
        step(lm)
    assert faults[0].startswith(f"{layer}: {what}")
    assert len(faults) == 1
    assert isinstance(dict(products(lm))[layer].product, Product)  # as it was


def test_an_infinity_that_quantizing_would_hide_is_seen() -> None:
    lm = randomized(CONFIG)
    lm.compute_dtype = torch.bfloat16
    use_fp8(lm, "blocks")
    with torch.no_grad():
        lm.backbone.layers[4].norm.weight[3] = float("inf")
    with watched(lm) as faults:
        step(lm)
    assert faults == ["backbone.layers.4.mixer.up_proj: its input has an infinity"]
