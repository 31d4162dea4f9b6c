"""The mesh on which a command would run if there were enough devices: how many, what each holds, how long it takes."""

from collections.abc import Callable
from dataclasses import dataclass

from model.errors import UsageError
from model.parallel.shape import MeshShape
from stages.common.plan import Plan
from stages.common.training.hardware import Accelerator

H200 = Accelerator("H200", memory=141 * 10**9, flops_per_s=989e12)
"""NVIDIA's data sheet; an H100 SXM multiplies as fast and has 80 GB."""

FILLED = 0.9
"""Share of a device's memory that a plan may take: communication, fragments and what libraries hold need the rest."""

_MOST_TENSOR = 8
"""Devices that share a mixer lie in one machine."""


@dataclass(frozen=True)
class Layout:
    """memory: bytes on each device. seconds: of the whole run."""

    mesh: MeshShape
    memory: int
    seconds: float


def spread(
    plan_on: Callable[[MeshShape], Plan], micro_batches: int, accelerator: Accelerator, most: int
) -> Layout | None:
    """The mesh with the fewest devices a row that fits, and then with as many devices as a step has micro-batches for.

    Of meshes with as many devices a row the one with the most of them on the row's tokens. None if `most` devices cannot
    hold it.
    """
    devices_per_row = 1
    while devices_per_row <= most:
        copies = max(count for count in range(1, most // devices_per_row + 1) if micro_batches % count == 0)
        tensor = 1
        while tensor <= min(devices_per_row, _MOST_TENSOR):
            mesh = MeshShape(copies, devices_per_row // tensor, tensor)
            if layout := _layout(plan_on, mesh, accelerator):
                return layout
            tensor *= 2
        devices_per_row *= 2
    return None


def _layout(plan_on: Callable[[MeshShape], Plan], mesh: MeshShape, accelerator: Accelerator) -> Layout | None:
    try:
        plan = plan_on(mesh)
    except UsageError:  # rows or mixers have no such parts
        return None
    assert plan.peak_bytes is not None
    assert plan.seconds is not None
    if plan.peak_bytes > FILLED * accelerator.memory:
        return None
    return Layout(mesh, plan.peak_bytes, plan.seconds)


def flops(plan: Plan) -> float:
    """Of everything that the plan counts."""
    sections = (plan.sections.get("Work", {}), plan.sections.get("Generation", {}))
    return sum(
        float(value)
        for section in sections
        for name, value in section.items()
        if name == "flops" or name.endswith("_flops")
    )
