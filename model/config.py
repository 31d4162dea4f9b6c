"""`HybridConfig`: the shape of a hybrid model, and its two dialects on disk.

A NemotronH `config.json` names the blocks either as a string (`hybrid_override_pattern`, "M-M*-") or as a list
(`layers_block_type`, with `linear_attention | full_attention | mlp`, or `mamba | attention | mlp` in older files).
Both are read; both are written. `mamba_num_heads * mamba_head_dim` is the Mamba width; `expand` is inert.

Two settings are traps of the format. transformers clamps dt from below at `time_step_min` in its prefill and not in its
decode, so 1e-30 is written, which clamps nothing; the smallest dt of a fresh model therefore lives here alone, as
`dt_init_min`. And a key that means something to another reader but nothing here would make two programs disagree in
silence, so every key of a file is either understood, known to be inert, or refused by name.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from model.errors import ArtifactError, UsageError

MAMBA, ATTENTION, MLP = "M", "*", "-"
KINDS = {"mamba": MAMBA, "attention": ATTENTION, "mlp": MLP}
"""The letter of each kind of block."""

_LAYER_NAMES = {MAMBA: "linear_attention", ATTENTION: "full_attention", MLP: "mlp"}
_PATTERN_OF_NAME = {
    "linear_attention": MAMBA,
    "mamba": MAMBA,
    "full_attention": ATTENTION,
    "attention": ATTENTION,
    "mlp": MLP,
}

UNCLAMPED_TIME_STEP_MIN = 1e-30
"""Written as `time_step_min`: low enough to clamp nothing, and unlike 0.0 its logarithm exists."""

Count = Annotated[int, Field(gt=0)]


class HybridConfig(BaseModel):
    """Shape and constants of a hybrid model. Field names are those of `config.json` except `pattern` and `dt_init_*`.

    Source: Nemotron Nano 2 report, section 2.1; NemotronH configuration of transformers 5.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: Count
    hidden_size: Count
    pattern: str = Field(min_length=1, description="One letter a block: M Mamba-2, * attention, - MLP.")

    num_attention_heads: Count = 32
    num_key_value_heads: Count = 8
    head_dim: Count = 128

    intermediate_size: Count = 21504
    mlp_bias: bool = False

    mamba_num_heads: Count = 128
    mamba_head_dim: Count = 64
    ssm_state_size: Count = 128
    n_groups: Count = 8
    conv_kernel: int = Field(default=4, ge=2, le=4)
    use_conv_bias: bool = True
    use_bias: bool = Field(default=False, description="Biases in the Mamba projections.")
    chunk_size: Count = 128

    layer_norm_epsilon: float = Field(default=1e-5, gt=0)
    initializer_range: float = Field(default=0.02, gt=0)
    rescale_prenorm_residual: bool = True
    dt_init_min: float = Field(default=1e-3, gt=0)
    dt_init_max: float = Field(default=0.1, gt=0)
    dt_init_floor: float = Field(default=1e-4, gt=0)

    max_position_embeddings: Count = 131072
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2

    @field_validator("pattern")
    @classmethod
    def _known_blocks(cls, pattern: str) -> str:
        unknown = sorted(set(pattern) - set(_LAYER_NAMES))
        if unknown:
            kind = " (mixture of experts is not supported)" if "E" in unknown else ""
            raise ValueError(f"unknown block letter {unknown[0]!r}{kind}; M, * and - are known")
        return pattern

    @model_validator(mode="after")
    def _consistent(self) -> "HybridConfig":
        if self.mamba_num_heads % self.n_groups:
            raise ValueError(
                f"mamba_num_heads {self.mamba_num_heads} is no multiple of n_groups {self.n_groups}"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is no multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.chunk_size & (self.chunk_size - 1):
            raise ValueError(f"chunk_size {self.chunk_size} is no power of two")
        return self

    @property
    def num_hidden_layers(self) -> int:
        return len(self.pattern)

    @property
    def mamba_width(self) -> int:
        """Inner width of a Mamba block, heads x head_dim."""
        return self.mamba_num_heads * self.mamba_head_dim

    @property
    def conv_width(self) -> int:
        """Channels of the Mamba convolution: x, B and C."""
        return self.mamba_width + 2 * self.n_groups * self.ssm_state_size

    @property
    def in_proj_width(self) -> int:
        """Rows of a Mamba in_proj: z, x, B, C and dt."""
        return self.mamba_width + self.conv_width + self.mamba_num_heads

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        if self.eos_token_id is None:
            return ()
        return self.eos_token_id if isinstance(self.eos_token_id, tuple) else (self.eos_token_id,)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "HybridConfig":
        """A named shape, with single fields overridden. UsageError if the name or a field is unknown."""
        from model.presets import PRESETS

        if name not in PRESETS:
            raise UsageError(f"unknown preset {name!r}", remedy=f"choose one of {', '.join(PRESETS)}")
        try:
            return cls.model_validate({**PRESETS[name], **overrides})
        except ValidationError as error:
            raise UsageError(describe(error), where=f"shape of preset {name}") from error

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any], *, where: str = "config.json") -> "HybridConfig":
        """Read the content of a NemotronH `config.json` in either dialect. ArtifactError names the offending key."""
        values = dict(raw)
        if values.get("model_type", "nemotron_h") != "nemotron_h":
            raise ArtifactError(
                f"model_type is {values['model_type']!r}, not 'nemotron_h'",
                where=where,
                remedy="give a NemotronH checkpoint",
            )
        for alias, key in _ALIASES.items():
            if alias in values and values.setdefault(key, values[alias]) != values.pop(alias):
                raise ArtifactError(
                    f"{alias} and {key}, two names of one setting, contradict each other",
                    where=where,
                    remedy="remove the wrong one",
                )
        pattern = _read_pattern(values, where)
        for key, accepted in _FIXED.items():
            if key in values and values[key] not in accepted:
                raise ArtifactError(
                    f"{key} = {values[key]!r} is not supported (only {accepted[0]!r})",
                    where=where,
                    remedy="convert the checkpoint, or use another one",
                )
        for key in _UNREAD_EPSILONS & values.keys():
            if values.pop(key) != values.get("layer_norm_epsilon", 1e-5):
                raise ArtifactError(
                    f"{key} contradicts layer_norm_epsilon, the one that readers use",
                    where=where,
                    remedy=f"remove {key}",
                )
        _refuse_finite_time_step_limit(values.get("time_step_limit"), where)
        if values.get("num_key_value_heads", 1) is None:
            values["num_key_value_heads"] = values.get("num_attention_heads", 32)
        if isinstance(values.get("eos_token_id"), list):
            values["eos_token_id"] = tuple(values["eos_token_id"])

        fields: dict[str, Any] = {"pattern": pattern}
        for key, value in values.items():
            if key in cls.model_fields and key not in _NAMED_OTHERWISE:
                fields[key] = value
            elif key in _DT_INIT_KEYS:
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ArtifactError(f"{key} = {value!r} is not a number", where=where)
                if value > UNCLAMPED_TIME_STEP_MIN:
                    fields[_DT_INIT_KEYS[key]] = value
            elif key not in _FIXED and key not in _INERT and not key.startswith("_"):
                raise ArtifactError(
                    f"unknown key {key!r}",
                    where=where,
                    remedy="remove it if it has no effect on the model; nothing here would honour it",
                )
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise ArtifactError(describe(error), where=where) from error

    def to_hf(self, *, dtype: str) -> dict[str, Any]:
        """The `config.json` content that transformers, vLLM and this core all read alike. dtype: 'float32', 'bfloat16'."""
        eos = self.eos_token_id
        return {
            "architectures": ["NemotronHForCausalLM"],
            "model_type": "nemotron_h",
            "dtype": dtype,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "hybrid_override_pattern": self.pattern,
            "layers_block_type": [_LAYER_NAMES[letter] for letter in self.pattern],
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "sliding_window": None,
            "intermediate_size": self.intermediate_size,
            "mlp_hidden_act": "relu2",
            "mlp_bias": self.mlp_bias,
            "mamba_num_heads": self.mamba_num_heads,
            "mamba_head_dim": self.mamba_head_dim,
            "ssm_state_size": self.ssm_state_size,
            "n_groups": self.n_groups,
            "conv_kernel": self.conv_kernel,
            "use_conv_bias": self.use_conv_bias,
            "use_bias": self.use_bias,
            "chunk_size": self.chunk_size,
            "mamba_hidden_act": "silu",
            "mamba_ssm_cache_dtype": "float32",
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "initializer_range": self.initializer_range,
            "rescale_prenorm_residual": self.rescale_prenorm_residual,
            "residual_in_fp32": False,
            "time_step_min": UNCLAMPED_TIME_STEP_MIN,
            "time_step_max": self.dt_init_max,
            "time_step_floor": self.dt_init_floor,
            "time_step_limit": [0.0, {"__float__": "Infinity"}],
            "tie_word_embeddings": False,
            "max_position_embeddings": self.max_position_embeddings,
            "pad_token_id": self.pad_token_id,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": list(eos) if isinstance(eos, tuple) else eos,
            "use_cache": True,
            "num_logits_to_keep": 1,
        }


def describe(error: ValidationError) -> str:
    """The first complaint of a pydantic error in one line, with the field's name in front."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


def _read_pattern(values: dict[str, Any], where: str) -> str:
    names = values.pop("layers_block_type", None)
    pattern = values.pop("hybrid_override_pattern", None)
    count = values.pop("num_hidden_layers", None)
    if names is not None:
        if not isinstance(names, list):
            raise ArtifactError(f"layers_block_type = {names!r} is not a list", where=where)
        unknown = [name for name in names if not (isinstance(name, str) and name in _PATTERN_OF_NAME)]
        if unknown:
            raise ArtifactError(
                f"layers_block_type has the unsupported kind {unknown[0]!r}",
                where=where,
                remedy=f"known kinds: {', '.join(_PATTERN_OF_NAME)}",
            )
        from_names = "".join(_PATTERN_OF_NAME[name] for name in names)
        if pattern is not None and pattern != from_names:
            raise ArtifactError(
                f"hybrid_override_pattern {pattern!r} contradicts layers_block_type ({from_names!r})",
                where=where,
            )
        pattern = from_names
    if pattern is None:
        raise ArtifactError("neither hybrid_override_pattern nor layers_block_type is given", where=where)
    if count is not None and count != len(pattern):
        raise ArtifactError(
            f"num_hidden_layers is {count}, the pattern has {len(pattern)} blocks", where=where
        )
    return str(pattern)


def _refuse_finite_time_step_limit(limit: Any, where: str) -> None:
    if limit is None:
        return
    try:  # transformers writes infinity as {"__float__": "Infinity"}
        low, high = (float(end["__float__"] if isinstance(end, dict) else end) for end in limit)
    except (TypeError, ValueError, KeyError) as error:
        raise ArtifactError(f"time_step_limit = {limit!r} is not a pair of numbers", where=where) from error
    if not (low <= 0.0 and high == math.inf):
        raise ArtifactError(
            f"time_step_limit [{low:g}, {high:g}] would clamp dt; only [0, inf] is supported", where=where
        )


_ALIASES = {
    "layer_types": "layers_block_type",
    "attention_head_dim": "head_dim",
    "mamba_n_groups": "n_groups",
    "mamba_d_conv": "conv_kernel",
    "mamba_expand": "expand",
    "mamba_dt_min": "time_step_min",
    "mamba_dt_max": "time_step_max",
    "mamba_dt_limit": "time_step_limit",
    "mamba_dt_init_floor": "time_step_floor",
    "mamba_conv_bias": "use_conv_bias",
    "mamba_chunk_size": "chunk_size",
}

_DT_INIT_KEYS = {
    "time_step_min": "dt_init_min",
    "time_step_max": "dt_init_max",
    "time_step_floor": "dt_init_floor",
}

_NAMED_OTHERWISE = frozenset({"pattern", *_DT_INIT_KEYS.values()})
"""Fields of `HybridConfig` that a file has under another name."""

_FIXED: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "attention_dropout": (0.0,),
    "hidden_dropout": (0.0,),
    "sliding_window": (None,),
    "mlp_hidden_act": ("relu2",),
    "mamba_hidden_act": ("silu",),
    "mamba_proj_bias": (False,),
    "residual_in_fp32": (False,),
    "tie_word_embeddings": (False,),
    "num_nextn_predict_layers": (0, None),
    "quantization_config": (None,),
}
"""Keys that change the network, each with the values that this core computes."""

_UNREAD_EPSILONS = frozenset({"rms_norm_eps", "norm_eps"})
"""Released checkpoints repeat `layer_norm_epsilon` under these names."""

_INERT = frozenset(
    """
    architectures auto_map dtype torch_dtype model_type transformers_version time_step_limit use_cache use_mamba_kernels
    num_logits_to_keep expand mamba_ssm_cache_dtype output_router_logits mtp_layers_block_type mtp_hybrid_override_pattern
    n_routed_experts num_local_experts n_shared_experts moe_intermediate_size moe_shared_expert_intermediate_size
    moe_latent_size moe_shared_expert_overlap num_experts_per_tok routed_scaling_factor n_group topk_group norm_topk_prob
    is_encoder_decoder return_dict output_attentions output_hidden_states chunk_size_feed_forward problem_type
    id2label label2id rope_theta partial_rotary_factor nano2
    """.split()  # noqa: SIM905
)
"""Keys that other programs write and that change nothing in a dense NemotronH forward pass."""
