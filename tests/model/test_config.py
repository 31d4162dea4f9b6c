"""Reading and writing config.json: what is understood, what is inert, what is refused by name."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import UNCLAMPED_TIME_STEP_MIN, HybridConfig
from model.errors import ArtifactError, UsageError
from model.presets import PRESETS
from tests.model.miniatures import MINIATURES, miniature

WRITTEN = miniature("M-*-").to_hf(dtype="float32")


def read(**changes: Any) -> HybridConfig:
    return HybridConfig.from_hf(WRITTEN | changes)


@pytest.mark.parametrize("name", MINIATURES)
def test_survives_the_round_trip(name: str) -> None:
    config = MINIATURES[name]
    assert HybridConfig.from_hf(config.to_hf(dtype="float32")) == config


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_round_trip(name: str) -> None:
    config = HybridConfig.preset(name)
    assert HybridConfig.from_hf(config.to_hf(dtype="bfloat16")) == config


@given(
    pattern=st.text(alphabet="M*-", min_size=1, max_size=70),
    eos=st.one_of(
        st.none(), st.integers(0, 95), st.lists(st.integers(0, 95), min_size=1, max_size=3).map(tuple)
    ),
    dt_max=st.floats(1e-2, 1.0),
)
def test_any_config_survives_the_round_trip(pattern: str, eos: Any, dt_max: float) -> None:
    config = miniature(pattern, eos_token_id=eos, dt_init_max=dt_max)
    assert HybridConfig.from_hf(config.to_hf(dtype="float32")) == config


def test_written_for_transformers_and_vllm() -> None:
    """INTEROP.md section 0: both names of the blocks, no clamp, floats as floats, never tied."""
    raw = miniature("M-*").to_hf(dtype="bfloat16")
    assert raw["hybrid_override_pattern"] == "M-*"
    assert raw["layers_block_type"] == ["linear_attention", "mlp", "full_attention"]
    assert raw["num_hidden_layers"] == 3
    assert raw["time_step_min"] == 1e-30
    assert raw["time_step_limit"] == [0.0, {"__float__": "Infinity"}]
    assert raw["tie_word_embeddings"] is False
    assert raw["architectures"] == ["NemotronHForCausalLM"]
    assert raw["mamba_ssm_cache_dtype"] == "float32"
    for name in (
        "time_step_min",
        "time_step_max",
        "time_step_floor",
        "layer_norm_epsilon",
        "initializer_range",
    ):
        assert isinstance(raw[name], float), name


@pytest.mark.parametrize(
    "limit", [None, [0.0, math.inf], [0, math.inf], [0.0, {"__float__": "Infinity"}], (0.0, math.inf)]
)
def test_an_open_time_step_limit_is_read(limit: Any) -> None:
    assert read(time_step_limit=limit) == read()


@pytest.mark.parametrize("limit", [[0.001, math.inf], [0.0, 0.1]])
def test_a_finite_time_step_limit_is_refused(limit: list[float]) -> None:
    with pytest.raises(ArtifactError, match="time_step_limit"):
        read(time_step_limit=limit)


@pytest.mark.parametrize("limit", ["wide", [0.0], [0.0, "much"], [0.0, {"__float__": "-Infinity"}], 3])
def test_a_malformed_time_step_limit_is_refused(limit: Any) -> None:
    with pytest.raises(ArtifactError, match="time_step_limit"):
        read(time_step_limit=limit)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sliding_window", 512),
        ("attention_bias", True),
        ("tie_word_embeddings", True),
        ("residual_in_fp32", True),
        ("mlp_hidden_act", "silu"),
        ("mamba_hidden_act", "gelu"),
        ("num_nextn_predict_layers", 1),
        ("quantization_config", {"quant_method": "modelopt"}),
    ],
)
def test_what_this_core_does_not_compute_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ArtifactError, match=key) as caught:
        read(**{key: value})
    assert caught.value.where == "config.json"
    assert caught.value.remedy


@pytest.mark.parametrize("key", ["logit_scale", "rope_scaling", "hidden_sise", "pattern", "dt_init_min"])
def test_unknown_keys_are_refused(key: str) -> None:
    with pytest.raises(ArtifactError, match=f"unknown key '{key}'"):
        read(**{key: 1.0})


@pytest.mark.parametrize("key", ["expand", "rope_theta", "nano2", "use_mamba_kernels", "torch_dtype"])
def test_inert_keys_change_nothing(key: str) -> None:
    assert read(**{key: "anything"}) == read()


@pytest.mark.parametrize("pattern", ["M-E*", "MEM"])
def test_mixtures_of_experts_are_refused(pattern: str) -> None:
    with pytest.raises(ArtifactError, match="mixture of experts"):
        HybridConfig.from_hf(
            {
                **WRITTEN,
                "hybrid_override_pattern": pattern,
                "num_hidden_layers": len(pattern),
                "layers_block_type": None,
            }
        )
    names = {"M": "linear_attention", "E": "moe", "-": "mlp", "*": "full_attention"}
    with pytest.raises(ArtifactError, match="'moe'"):
        HybridConfig.from_hf(
            {
                **WRITTEN,
                "layers_block_type": [names[letter] for letter in pattern],
                "hybrid_override_pattern": None,
                "num_hidden_layers": None,
            }
        )


def test_contradictions_are_refused() -> None:
    with pytest.raises(ArtifactError, match="contradicts"):
        read(hybrid_override_pattern="M-M-")
    with pytest.raises(ArtifactError, match="num_hidden_layers is 5"):
        read(num_hidden_layers=5)
    with pytest.raises(ArtifactError, match="neither"):
        read(hybrid_override_pattern=None, layers_block_type=None)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n_groups": 3}, "n_groups"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"chunk_size": 48}, "chunk_size"),
        ({"conv_kernel": 5}, "conv_kernel"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"intermediate_size": [64, 64]}, "intermediate_size"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"hidden_size": None}, "hidden_size"),
        ({"time_step_max": "long"}, "time_step_max"),
        ({"layers_block_type": "mlp"}, "layers_block_type"),
        ({"layers_block_type": 4}, "layers_block_type"),
        ({"hybrid_override_pattern": 4}, "hybrid_override_pattern"),
    ],
)
def test_impossible_values_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ArtifactError, match=named):
        read(**changes)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ArtifactError, match="'llama'"):
        read(model_type="llama")


def test_omitted_keys_take_the_formats_defaults() -> None:
    """head_dim is not derived, and key/value heads default to 8: as transformers' NemotronHConfig has them."""
    config = HybridConfig.from_hf({"vocab_size": 128, "hidden_size": 64, "hybrid_override_pattern": "M*-"})
    assert (config.head_dim, config.num_attention_heads, config.num_key_value_heads) == (128, 32, 8)
    assert (config.mamba_num_heads, config.mamba_head_dim, config.n_groups, config.conv_kernel) == (
        128,
        64,
        8,
        4,
    )
    assert config.intermediate_size == 21504
    assert config.layer_norm_epsilon == 1e-5


def test_defaults_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.NemotronHConfig(hybrid_override_pattern="M*-")
    ours = HybridConfig.from_hf({"vocab_size": 128, "hidden_size": 64, "hybrid_override_pattern": "M*-"})
    shared = set(HybridConfig.model_fields) - {
        "vocab_size",
        "hidden_size",
        "pattern",
        "max_position_embeddings",
    }
    for name in shared:
        if not name.startswith("dt_init"):
            assert getattr(ours, name) == getattr(theirs, name), name
    assert (ours.dt_init_min, ours.dt_init_max, ours.dt_init_floor) == (
        theirs.time_step_min, theirs.time_step_max, theirs.time_step_floor
    )  # fmt: skip


def test_aliases_are_read() -> None:
    raw = {
        key: value for key, value in WRITTEN.items() if key not in ("n_groups", "conv_kernel", "chunk_size")
    }
    assert (
        HybridConfig.from_hf(raw | {"mamba_n_groups": 2, "mamba_d_conv": 4, "mamba_chunk_size": 16}) == read()
    )


def test_an_alias_that_contradicts_is_refused() -> None:
    """transformers would follow the alias."""
    with pytest.raises(ArtifactError, match="mamba_n_groups and n_groups"):
        read(mamba_n_groups=1)


RELEASED_8B = {
    "architectures": ["NemotronHForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attention_head_dim": 128, "auto_map": {"AutoConfig": "configuration_nemotron_h.NemotronHConfig"},
    "bos_token_id": 1, "chunk_size": 256, "conv_kernel": 4, "eos_token_id": 2, "expand": 2, "hidden_dropout": 0.0,
    "hidden_size": 4096, "hybrid_override_pattern": PRESETS["nemotron-h-8b"]["pattern"], "initializer_range": 0.02,
    "intermediate_size": 21504, "layer_norm_epsilon": 1e-05, "mamba_head_dim": 64, "mamba_hidden_act": "silu",
    "mamba_num_heads": 128, "mamba_proj_bias": False, "max_position_embeddings": 8192, "mlp_bias": False,
    "mlp_hidden_act": "relu2", "model_type": "nemotron_h", "n_groups": 8, "num_attention_heads": 32,
    "num_hidden_layers": 52, "num_key_value_heads": 8, "num_logits_to_keep": 1, "pad_token_id": 0,
    "rescale_prenorm_residual": True, "residual_in_fp32": False, "rms_norm_eps": 1e-05, "sliding_window": None,
    "ssm_state_size": 128, "tie_word_embeddings": False, "time_step_floor": 0.0001, "time_step_limit": [0.0, math.inf],
    "time_step_max": 0.1, "time_step_min": 0.001, "torch_dtype": "bfloat16", "transformers_version": "4.48.0.dev0",
    "use_bias": False, "use_cache": True, "use_conv_bias": True, "use_mamba_kernels": True, "vocab_size": 131072,
}  # fmt: skip
"""The keys of the released Nemotron-H-8B."""


def test_released_configs_are_read() -> None:
    config = HybridConfig.from_hf(RELEASED_8B)
    assert config == HybridConfig.preset("nemotron-h-8b", chunk_size=256, max_position_embeddings=8192)
    assert HybridConfig.from_hf(RELEASED_8B | {"norm_eps": 1e-5, "partial_rotary_factor": 1.0}) == config
    with pytest.raises(ArtifactError, match="rms_norm_eps"):
        HybridConfig.from_hf(RELEASED_8B | {"rms_norm_eps": 1e-6})


def test_dt_init_is_not_overwritten_by_the_unclamped_minimum() -> None:
    assert read(time_step_min=UNCLAMPED_TIME_STEP_MIN).dt_init_min == 1e-3
    assert read(time_step_min=0.0).dt_init_min == 1e-3
    assert read(time_step_min=0.01).dt_init_min == 0.01


def test_presets_are_named_and_overridden() -> None:
    assert HybridConfig.preset("tiny", hidden_size=48).hidden_size == 48
    with pytest.raises(UsageError, match="unknown preset 'nano3'"):
        HybridConfig.preset("nano3")
    with pytest.raises(UsageError, match="n_layers"):
        HybridConfig.preset("tiny", n_layers=4)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_follow_the_design_rule(name: str) -> None:
    """First a Mamba block, last an MLP, every attention block right before an MLP."""
    pattern = HybridConfig.preset(name).pattern
    assert pattern[0] == "M"
    assert pattern[-1] == "-"
    assert all(after == "-" for letter, after in pairwise(pattern) if letter == "*")


def test_family_patterns() -> None:
    """Depths and attention positions of the report: 62 blocks with 6 attention, 56 with 4, 52 with 4."""
    counts = {name: HybridConfig.preset(name).pattern for name in ("nano2-12b", "nano2-9b", "nemotron-h-8b")}
    assert {name: (len(p), p.count("*")) for name, p in counts.items()} == {
        "nano2-12b": (62, 6), "nano2-9b": (56, 4), "nemotron-h-8b": (52, 4)
    }  # fmt: skip


def test_config_is_frozen_and_needs_no_torch() -> None:
    import subprocess
    import sys

    config = miniature("M")
    with pytest.raises(ValueError, match="frozen"):
        config.hidden_size = 3  # type: ignore[misc]
    code = "import sys, model.config, model.presets, model.counting, model.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
