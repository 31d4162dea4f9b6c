"""A plan of one device spread over many: how many of them take part, what each holds, how long it takes.

As FSDP does it, weights, gradients, optimizer and the models beside are spread over all devices. A row is split over some
of them (tensor and context parallelism) if one cannot hold it; the rows of a step are shared out among such groups.
"""

from dataclasses import dataclass

from stages.common.plan import Plan
from stages.common.training.hardware import Accelerator

H200 = Accelerator("H200", memory=141 * 10**9, flops_per_s=989e12)
"""NVIDIA's data sheet; an H100 SXM multiplies as fast and has 80 GB."""

FILLED = 0.9
"""Share of a device's memory that a plan may take: gathered weights, communication and fragments need the rest."""

_OF_ALL = (
    "weights_bytes",
    "gradients_bytes",
    "optimizer_bytes",
    "models_bytes",
    "reference_bytes",
    "reward_model_bytes",
)
_OF_A_ROW = ("activations_bytes", "loss_bytes", "working_bytes")
_OF_A_STEP = ("kv_cache_bytes", "ssm_state_bytes", "conv_state_bytes")


@dataclass(frozen=True)
class Layout:
    """devices: that take part, `devices_per_row` of them on each row. memory: bytes on each. seconds: of the whole run."""

    devices: int
    devices_per_row: int
    memory: int
    seconds: float


def spread(plan: Plan, accelerator: Accelerator, most: int) -> Layout | None:
    """The layout with the fewest devices a row that fits, and then with as many devices as a step has rows for.

    plan: for one such device, with Work and Memory. None if `most` devices cannot hold it.
    """
    work, memory = plan.sections["Work"], plan.sections["Memory"]
    rows = int(work["tokens_per_step"]) // int(work["row_tokens"])
    generation = plan.sections.get("Generation", {})
    devices_per_row = 1
    while devices_per_row <= most:
        copies = max(count for count in range(1, most // devices_per_row + 1) if rows % count == 0)
        devices = copies * devices_per_row
        training = _sum(memory, _OF_ALL) / devices + _sum(memory, _OF_A_ROW) / devices_per_row
        sampling = _sum(generation, _OF_ALL) / devices + _sum(generation, _OF_A_STEP) / copies
        if max(training, sampling) <= FILLED * accelerator.memory:
            assert plan.seconds is not None
            return Layout(devices, devices_per_row, round(max(training, sampling)), plan.seconds / devices)
        devices_per_row *= 2
    return None


def flops(plan: Plan) -> float:
    """Of everything that the plan counts."""
    sections = (plan.sections.get("Work", {}), plan.sections.get("Generation", {}))
    return sum(
        float(value)
        for section in sections
        for name, value in section.items()
        if name == "flops" or name.endswith("_flops")
    )


def _sum(section: dict[str, str | int | float], endings: tuple[str, ...]) -> int:
    return sum(int(value) for name, value in section.items() if name.endswith(endings))
