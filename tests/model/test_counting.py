"""The formulas against the tensors and against what runs."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from model.config import HybridConfig
from model.counting import (
    conv_state_bytes,
    count_parameters,
    forward_flops_per_token,
    kv_cache_bytes,
    ssm_state_bytes,
    training_flops_per_token,
)
from model.hybrid import HybridLM
from model.inference.state import InferenceState, KeyValueCache, MambaState
from model.presets import PRESETS
from tests.model.miniatures import MINIATURES, miniature, random_ids, randomized


@register_flop_formula(torch.ops.mkldnn._linear_pointwise)
def _inner_product_flops(x_shape, weight_shape, *_args, out_shape=None, **_kwargs) -> int:
    return 2 * math.prod(x_shape) * weight_shape[0]


def on_meta(config: HybridConfig) -> HybridLM:
    with torch.device("meta"):
        return HybridLM(config, initialize=False)


@pytest.mark.parametrize("name", [*MINIATURES, *PRESETS])
def test_parameters_are_those_of_the_model(name: str) -> None:
    config = MINIATURES.get(name) or HybridConfig.preset(name)
    lm = on_meta(config)
    counts = count_parameters(config)
    assert counts.total == sum(parameter.numel() for parameter in lm.parameters())
    by_letter = {"M": counts.mamba, "*": counts.attention, "-": counts.mlp}
    for letter, count in by_letter.items():
        blocks = [
            block for block, kind in zip(lm.backbone.layers, config.pattern, strict=True) if kind == letter
        ]
        assert count == sum(parameter.numel() for block in blocks for parameter in block.parameters())


@pytest.mark.parametrize(
    ("name", "total"),
    [("nano2-12b", 12_310_001_152), ("nano2-9b", 8_888_227_328)],
)
def test_published_sizes(name: str, total: int) -> None:
    assert count_parameters(HybridConfig.preset(name)).total == total


@pytest.mark.parametrize("pattern", ["MM", "*-*-", "M-M*-"])
def test_forward_flops_are_what_the_products_take(pattern: str) -> None:
    """Against torch's counter, which counts full squares of attention scores where the formula counts the causal half,
    and leaves out the weights of norms and convolutions (under 2% here)."""
    config, length = HybridConfig.preset("mini-8m", vocab_size=512, pattern=pattern), 128
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        randomized(config)(random_ids(config, 1, length))
    causal_half = 2.0 * length * config.num_attention_heads * config.head_dim * config.pattern.count("*")
    counted = counter.get_total_flops() / length
    assert forward_flops_per_token(config, length) + causal_half == pytest.approx(counted, rel=0.02)


def test_training_takes_three_forward_passes() -> None:
    config = miniature("M-*-")
    assert training_flops_per_token(config, 64) == 3 * forward_flops_per_token(config, 64)


def test_state_bytes_are_those_of_the_tensors() -> None:
    config = miniature("M*M-*", num_key_value_heads=1)
    state = InferenceState.empty(config, 3, dtype=torch.bfloat16)
    lm = randomized(config, dtype=torch.bfloat16)
    lm(random_ids(config, 3, 10), state=state)
    mambas = [block for block in state.blocks if isinstance(block, MambaState)]
    caches = [block for block in state.blocks if isinstance(block, KeyValueCache)]
    assert ssm_state_bytes(config, 3) == sum(block.ssm_BHPN.nbytes for block in mambas)
    assert conv_state_bytes(config, 3) == sum(block.conv_BJC.nbytes for block in mambas)
    assert kv_cache_bytes(config, 10, 3) == sum(
        block.key_BSkh[:, :10].nbytes + block.value_BSkh[:, :10].nbytes for block in caches
    )
