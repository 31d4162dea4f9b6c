import pytest

from model.config import HybridConfig
from model.errors import UsageError
from model.hybrid import HybridLM
from model.layers.linear import Linear
from model.precision.eligibility import describe, fp8_flops_share, fp8_layers, layer_table
from tests.model.miniatures import MINIATURES, miniature

WIDE = {
    "hidden_size": 48,
    "head_dim": 16,
    "intermediate_size": 64,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "n_groups": 2,
    "ssm_state_size": 16,
}


@pytest.mark.parametrize("name", MINIATURES)
def test_the_table_has_every_linear_layer_of_the_blocks_with_its_size(name: str) -> None:
    lm = HybridLM(MINIATURES[name], initialize=False)
    layers = {
        module_name: tuple(module.weight.shape)
        for module_name, module in lm.backbone.named_modules(prefix="backbone")
        if isinstance(module, Linear)
    }
    assert {layer.name: (layer.outputs, layer.inputs) for layer in layer_table(lm.config)} == layers
    assert [layer.name for layer in layer_table(lm.config)] == list(layers)


def test_of_the_12b_all_but_the_two_blocks_at_either_end() -> None:
    config = HybridConfig.preset("nano2-12b")
    blocks = {layer.block for layer in fp8_layers(config)}
    assert blocks == set(range(2, 60))
    assert 0.92 < fp8_flops_share(config) < 0.94


def test_widths_that_the_products_cannot_take_are_said() -> None:
    config = miniature("M-M*-M-", **WIDE | {"mamba_num_heads": 4})  # in_proj makes 2 x 64 + 2 x 32 + 4
    reasons = {layer.name: layer.reason for layer in layer_table(config)}
    assert reasons["backbone.layers.2.mixer.in_proj"] == "196 is no multiple of 16"
    assert reasons["backbone.layers.2.mixer.out_proj"] == ""
    assert "first 2 and last 2 blocks" in reasons["backbone.layers.0.mixer.out_proj"]
    assert describe(config)["in_proj, bfloat16"] == (
        "[196, 48] in blocks 0, 5: one of the first 2 and last 2 blocks; "
        "[196, 48] in block 2: 196 is no multiple of 16"
    )
    assert describe(config)["q_proj, FP8"] == "[64, 48] in block 3"
    assert "head" in describe(config)["elsewhere"]


def test_a_layer_with_a_bias_and_parts_of_tensor_ranks_are_judged_as_they_are() -> None:
    config = miniature("M-M-M-M", **WIDE, use_bias=True)
    assert {layer.name.rpartition(".")[2] for layer in fp8_layers(config)} == {"up_proj", "down_proj"}
    halves = {layer.name: layer for layer in layer_table(miniature("M-M-M-M", **WIDE), tensor_ranks=8)}
    assert halves["backbone.layers.3.mixer.up_proj"].reason == "8 is no multiple of 16"


def test_a_model_without_any_such_layer_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no layer .* first 2 and last 2 blocks") as caught:
        fp8_layers(miniature("M-*-", **WIDE))
    assert "bfloat16" in caught.value.remedy
