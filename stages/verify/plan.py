"""Memory of `nano2 verify`: the weights twice in float32, and the activations of one block at a time."""

import os

from model.counting import count_parameters
from model.loading import read_config
from stages.common.plan import Plan
from stages.common.sizes import format_bytes
from stages.verify.config import VerifyConfig

_FLOAT32 = 4


def plan(config: VerifyConfig) -> Plan:
    """Refused when the two copies of the weights alone exceed this machine's memory."""
    shape = read_config(config.model)
    parameters = count_parameters(shape).total
    weights = 2 * _FLOAT32 * parameters
    logits = 5 * _FLOAT32 * config.tokens * shape.vocab_size  # ours, theirs, clamped, and two in reduction
    streams = _FLOAT32 * config.tokens * shape.hidden_size * (shape.num_hidden_layers + 2)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    refusals = []
    if weights > memory:
        refusals.append(
            f"the weights in float32, once for each program, take {format_bytes(weights)}, and this machine has "
            f"{format_bytes(memory)}: set model to a smaller one, or use a machine with more memory"
        )
    return Plan(
        title=f"verify {config.model}",
        sections={
            "model": {"parameters": parameters, "layers": shape.num_hidden_layers},
            "memory": {"weights_bytes": weights, "logits_bytes": logits, "residual_streams_bytes": streams},
        },
        peak_bytes=weights + logits + streams,
        refusals=refusals,
    )
