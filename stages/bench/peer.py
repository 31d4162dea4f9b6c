"""The other side of a comparison: transformers' NemotronHForCausalLM as installed, with our weights."""

import warnings

import transformers
from torch import nn
from transformers import NemotronHConfig, NemotronHForCausalLM

from model.hybrid import HybridLM


def transformers_model(lm: HybridLM, attention: str = "sdpa") -> nn.Module:
    """transformers' model with a copy of every weight of `lm`, in float32 on the same device. attention: its
    `attn_implementation`."""
    transformers.logging.set_verbosity_error()  # what it falls back to on a CPU is no news here
    warnings.simplefilter("ignore")
    raw = lm.config.to_hf(dtype="float32")
    for key in ("num_hidden_layers", "time_step_limit"):  # derived by it, or spelt for files alone
        del raw[key]
    with lm.device:
        model: nn.Module = NemotronHForCausalLM(NemotronHConfig(**raw | {"attn_implementation": attention}))
    model.load_state_dict(
        {name.replace("backbone.", "model.", 1): value for name, value in lm.state_dict().items()}
    )
    return model
