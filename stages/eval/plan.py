"""What `nano2 eval --plan` tells: the tasks with their documents, and the memory it will take."""

from model.counting import count_parameters
from model.loading import read_config
from stages.common.evaluation.planning import planned_memory, planned_work, weights_refusals
from stages.common.evaluation.tasks import plan_tasks, single_tasks
from stages.common.plan import Plan
from stages.common.training.hardware import available_bytes, resolve_device
from stages.eval.config import EvalConfig


def plan(config: EvalConfig) -> Plan:
    """Loads the tasks: an unknown name or a damaged data file is found before the model is read."""
    tasks = single_tasks(plan_tasks(config, config.model))
    shape = read_config(config.model)
    device = resolve_device(config.device)
    memory = planned_memory(config, shape, config.dtype or "float32")
    available = available_bytes(device)
    return Plan(
        title=f"eval {config.model} on {device.type}",
        sections={
            **planned_work(config, tasks),
            "Parameters": {"total": count_parameters(shape).total},
            "Memory": {**memory, "available_bytes": available},
        },
        peak_bytes=sum(memory.values()),
        refusals=weights_refusals(memory, available, device),
    )
