"""What `nano2 serve` takes: the weights, and for each slot what the model remembers of a text of full length."""

import torch

from model.counting import conv_state_bytes, count_parameters, kv_cache_bytes, ssm_state_bytes
from model.loading import DTYPES, named_dtype, read_config
from stages.common.plan import Plan
from stages.common.sizes import format_bytes
from stages.common.training.hardware import available_bytes, resolve_device
from stages.serve.config import ServeConfig


def plan(config: ServeConfig) -> Plan:
    """Refused when the device has not the memory for all slots at full length."""
    shape = read_config(config.model)
    dtype = DTYPES[config.dtype] if config.dtype else named_dtype(config.model) or torch.bfloat16
    element = dtype.itemsize
    parameters = count_parameters(shape).total
    length = config.max_length or shape.max_position_embeddings
    weights = element * parameters
    states = ssm_state_bytes(shape) + conv_state_bytes(shape, element_bytes=element)
    cache = kv_cache_bytes(shape, length, element_bytes=element)
    total = weights + config.slots * (states + cache)
    device = resolve_device(config.device)
    available = available_bytes(device)
    refusals = []
    if weights > available:
        refusals.append(
            f"the weights take {format_bytes(weights)}, {device.type} has {format_bytes(available)} free: "
            "set model to a smaller one, or dtype to a smaller one"
        )
    elif total > available:
        refusals.append(
            f"{config.slots} slots of {length} tokens and the weights take {format_bytes(total)}, {device.type} has "
            f"{format_bytes(available)} free: set slots or max_length lower"
        )
    return Plan(
        title=f"serve {config.model} on {device.type}",
        sections={
            "Model": {"parameters": parameters},
            "A slot": {
                "tokens": length,
                "kv_cache_bytes": cache,
                "ssm_and_conv_state_bytes": states,
                "slot_bytes": cache + states,
            },
            "Memory": {
                "weights_bytes": weights,
                "slots": config.slots,
                "all_slots_bytes": config.slots * (cache + states),
                "total_bytes": total,
                "available_bytes": available,
            },
        },
        peak_bytes=total,
        refusals=refusals,
        warnings=[
            "rooms for keys and values grow by doubling: texts of full length may take up to twice theirs"
        ]
        if cache
        else [],
    )
