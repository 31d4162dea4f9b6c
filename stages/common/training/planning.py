"""What a training run will take: parameters, tokens, FLOPs, memory by kind, time."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

import torch

from model.config import KINDS, HybridConfig
from model.counting import count_parameters, forward_flops_by_kind, training_flops_per_token
from model.errors import UsageError
from model.kernels import choice
from model.parallel.shape import MeshShape
from model.precision.eligibility import describe, fp8_flops_share, fp8_layers
from stages.common.plan import Plan, PlanValue
from stages.common.preset import preset_warning
from stages.common.ranks import ranks
from stages.common.sizes import format_bytes
from stages.common.training.hardware import available_bytes, matrix_rate, resolve_device
from stages.common.training.memory import TrainingMemory, training_memory
from stages.common.training.planned_mesh import on_each_rank, planned_mesh
from stages.common.training.settings import TrainingSettings
from stages.common.training.steps import StepShape

TYPICAL_SHARE = 0.35
"""Share of the machine's matrix rate that a training step reaches, for the time estimate (docs/bench/cpu.json)."""


_DOUBLINGS = 10
"""Of the ranks that are there, up to which more are suggested."""

STEP_BYTES_PER_TOKEN = 40
"""Of a step's rows in the machine's memory: three int64 tensors, and the int32 columns that they are made of."""


def training_plan(
    title: str,
    shape: HybridConfig,
    steps: StepShape,
    settings: TrainingSettings,
    *,
    data: Mapping[str, PlanValue],
    warnings: Sequence[str] = (),
    beside: Mapping[str, int] = MappingProxyType({}),
    on_ranks: bool = False,
) -> Plan:
    """The plan of a run of `steps` on a model of this shape; memory is that of each rank.

    data: rows that tell of the data. beside: what else lies on the device, by name, in bytes. on_ranks: may torchrun start
    the stage? UsageError if rows or mixers cannot be cut as the settings ask.
    """
    device, mesh = resolve_device(settings.device), planned_mesh(settings)
    flops = steps.tokens * training_flops_per_token(shape, steps.seq_len)
    again = steps.tokens * sum(
        forward_flops_by_kind(shape, steps.seq_len)[KINDS[kind]] for kind in set(settings.recompute)
    )
    rate = matrix_rate(device, getattr(torch, settings.activations))
    fused = expects_fused_kernels(settings.kernels, device)
    needs = Needs(shape, steps, settings.precision, frozenset(settings.recompute), mesh, beside, fused)
    memory, available = needs.memory(), _available(device)
    return Plan(
        title=f"{title} on {device.type}" if mesh is None else f"{title} on {mesh.ranks} x {device.type}",
        sections={
            "Parameters": _parameters(shape),
            **_mesh_section(mesh),
            **_precision_section(shape, settings),
            "Work": {
                "tokens": steps.tokens,
                "steps": steps.steps,
                "tokens_per_step": steps.tokens_per_step,
                "row_tokens": steps.seq_len,
                "flops": flops,
                **({"recomputed_flops": again} if again else {}),
                "matrix_flops_per_s": rate,
                "assumed_share_of_rate": TYPICAL_SHARE,
            },
            "Data": dict(data),
            "Memory": {
                **on_each_rank(beside, mesh),
                **memory.section(),
                "total_bytes": needs.bytes(),
                "available_bytes": available,
            },
        },
        peak_bytes=needs.bytes(),
        seconds=(flops + again) / rate / TYPICAL_SHARE / _ranks_at_work(steps, mesh),
        refusals=_refusals(needs, available, on_ranks=on_ranks, separate=device.type == "cuda")
        + _refused_precision(settings, device),
        warnings=list(warnings),
    )


def preset_plan(
    title: str,
    shape: HybridConfig,
    steps: StepShape,
    settings: TrainingSettings,
    model: Path,
    preset: str | None,
    *,
    tokens: int | None = None,
    on_ranks: bool = False,
) -> Plan:
    """The plan of a run over so many tokens, where neither the model nor its tokenizer is there to count the data's.

    None: of one step alone.
    """
    count = 1 if tokens is None else max(1, round(tokens / steps.tokens_per_step))
    lack = (
        "and of one step alone: how much the data is, is counted in the model's tokens"
        if tokens is None
        else "and its data is taken to have the planned tokens"
    )
    warnings = [preset_warning(model, preset, lack)]
    return training_plan(
        title, shape, replace(steps, steps=count), settings, data={}, warnings=warnings, on_ranks=on_ranks
    )


def expects_fused_kernels(kernels: str, device: torch.device) -> bool:
    """Will a run there in bfloat16 take a GPU's kernels? A GPU that this machine does not have is taken to have them."""
    if device.type != "cuda" or kernels == "pytorch":
        return False
    if not torch.cuda.is_available():
        return True
    return choice.fused_scan(torch.empty(0, dtype=torch.bfloat16, device=device), choice.FEWEST_CHUNK)


def with_passes(planned: Plan, flops: Mapping[str, float]) -> Plan:
    """The plan with work besides training, by name, in its time."""
    rate = planned.sections["Work"]["matrix_flops_per_s"]
    assert isinstance(rate, int | float)
    assert planned.seconds is not None
    sections = planned.sections | {"Work": planned.sections["Work"] | dict(flops)}
    ranks_there = planned.sections.get("Mesh", {}).get("ranks", 1)
    assert isinstance(ranks_there, int)
    seconds = planned.seconds + sum(flops.values()) / rate / TYPICAL_SHARE / ranks_there
    return planned.model_copy(update={"sections": sections, "seconds": seconds})


def _parameters(shape: HybridConfig) -> dict[str, PlanValue]:
    counts = count_parameters(shape)
    return {
        "total": counts.total,
        "mamba": counts.mamba,
        "attention": counts.attention,
        "mlp": counts.mlp,
        "embedding": counts.embedding,
        "head": counts.head,
        "pattern": shape.pattern,
    }


@dataclass(frozen=True)
class Needs:
    """What the memory of a step depends on. beside: what else lies on the device, in one process. fused: a GPU's kernels."""

    shape: HybridConfig
    steps: StepShape
    precision: str
    recompute: frozenset[str]
    mesh: MeshShape | None
    beside: Mapping[str, int]
    fused: bool

    def memory(self) -> TrainingMemory:
        return training_memory(
            self.shape,
            self.steps.micro_batch,
            self.steps.seq_len,
            self.precision,
            recompute=self.recompute,
            mesh=self.mesh,
            fused=self.fused,
        )

    def bytes(self) -> int:
        return self.memory().total + sum(on_each_rank(self.beside, self.mesh).values())

    def with_rows(self, micro_batch: int) -> "Needs":
        return replace(self, steps=replace(self.steps, micro_batch=micro_batch))


def _refusals(needs: Needs, available: int, *, on_ranks: bool, separate: bool) -> list[str]:
    """One that names all that would do, each alone; or, if nothing does, all of it together."""
    if needs.bytes() <= available:
        return _refused_rows(needs.steps)
    each = " on each rank" if needs.mesh else ""
    lack = f"the step needs {format_bytes(needs.bytes())}{each}, {format_bytes(available)} are there"
    fewer = _fewer_rows(needs, available)
    again = _recomputed(needs, available)
    remedies = [] if fewer is None else [f"--micro-batch {fewer.steps.micro_batch}"]
    remedies += [] if again is None else [f"--recompute {_listed(again.recompute)}"]
    if not remedies:
        least = replace(needs.with_rows(1), recompute=frozenset(KINDS))
        if least.bytes() > available and needs.precision == "float32":
            least = replace(least, precision="bfloat16")
        if least.bytes() <= available:
            remedies.append(_flags(needs, least))
    if on_ranks and separate and (more := _more_ranks(needs, available)):
        remedies.append(more)
    if remedies:
        return [f"{lack}; {', or '.join(remedies)} would fit"]
    return [f"{lack}; no --micro-batch would make it fit: choose a smaller model or shorter rows"]


def _fewer_rows(needs: Needs, available: int) -> Needs | None:
    sizes = range(needs.steps.micro_batch - 1, 0, -1)
    return next((found for size in sizes if (found := needs.with_rows(size)).bytes() <= available), None)


def _recomputed(needs: Needs, available: int) -> Needs | None:
    """As few kinds more as it takes; of equally many those that leave most."""
    others = sorted(set(KINDS) - needs.recompute)
    for count in range(1, len(others) + 1):
        sets = [needs.recompute | set(chosen) for chosen in combinations(others, count)]
        least = min((replace(needs, recompute=chosen) for chosen in sets), key=Needs.bytes)
        if least.bytes() <= available:
            return least
    return None


def _more_ranks(needs: Needs, available: int) -> str | None:
    """The fewest that fit, in powers of two times those that are there: with rows of their own, or with pieces of rows."""
    mesh = needs.mesh or MeshShape()
    for doublings in range(1, _DOUBLINGS + 1):
        for pieces in range(doublings + 1):
            larger = MeshShape(mesh.data << doublings - pieces, mesh.context << pieces, mesh.tensor)
            try:
                if replace(needs, mesh=larger).bytes() > available:
                    continue
            except UsageError:  # no such pieces
                continue
            pieces_flag = f" and --context-parallel {larger.context}" if larger.context > mesh.context else ""
            return f"{larger.ranks} ranks{pieces_flag}"
    return None


def _flags(before: Needs, after: Needs) -> str:
    flags = [f"--micro-batch {after.steps.micro_batch}"]
    if after.recompute != before.recompute:
        flags.append(f"--recompute {_listed(after.recompute)}")
    if after.precision != before.precision:
        flags.append(f"--precision {after.precision}")
    return " ".join(flags)


def _listed(kinds: Collection[str]) -> str:
    return ",".join(kind for kind in KINDS if kind in kinds)


def _available(device: torch.device) -> int:
    """What each rank may take: a machine's memory is shared by the ranks that run on its processors."""
    started = ranks()
    sharing = started.on_machine if started and device.type == "cpu" else 1
    return available_bytes(device) // sharing


def _ranks_at_work(steps: StepShape, mesh: MeshShape | None) -> float:
    """On average: where micro-batches are not shared out evenly, some of them wait."""
    if mesh is None:
        return 1.0
    micro_batches = math.ceil(steps.sequences / steps.micro_batch)
    rounds = math.ceil(micro_batches / mesh.data)
    return mesh.ranks * micro_batches / (rounds * mesh.data)


def _mesh_section(mesh: MeshShape | None) -> dict[str, dict[str, PlanValue]]:
    if mesh is None:
        return {}
    return {"Mesh": {"ranks": mesh.ranks, "data": mesh.data, "context": mesh.context, "tensor": mesh.tensor}}


def _precision_section(shape: HybridConfig, settings: TrainingSettings) -> dict[str, dict[str, PlanValue]]:
    """Which layers multiply in FP8. UsageError if none would."""
    if settings.fp8 is None:
        return {}
    fp8_layers(shape, tensor_ranks=settings.tensor_parallel)
    layers = describe(shape, tensor_ranks=settings.tensor_parallel)
    return {"Precision": {"fp8_share_of_projections": fp8_flops_share(shape), **layers}}


def _refused_precision(settings: TrainingSettings, device: torch.device) -> list[str]:
    """A GPU that is only planned for is not asked."""
    if settings.fp8 is None or device.type != "cuda" or not torch.cuda.is_available():
        return []
    from model.precision.transformer_engine import missing

    error = missing(settings.fp8)
    return [f"{error}; {error.remedy}"] if error else []


def _refused_rows(steps: StepShape) -> list[str]:
    """A step's rows are read at once, into the memory of the machine and not of its device."""
    needed, available = steps.tokens_per_step * STEP_BYTES_PER_TOKEN, available_bytes(torch.device("cpu"))
    if needed <= available:
        return []
    return [
        f"the rows of a step take {format_bytes(needed)}, {format_bytes(available)} are there: lower batch_tokens"
    ]
