"""How a training run's work is shared: by one process that does it all, or by the ranks of a mesh.

The loop asks the same things of both, and a step is the same: its rows, its loss over all that it trains on, its gradient.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
import torch.distributed as dist

from model.errors import UsageError
from model.hybrid import HybridLM
from stages.common.ranks import is_first
from stages.common.training.objectives import StepBatch

if TYPE_CHECKING:
    from model.parallel.mesh import Mesh

T = TypeVar("T")
B = TypeVar("B", bound=StepBatch)


class Team(Protocol):
    @property
    def mesh(self) -> "Mesh | None":
        """Of its ranks; None where one process does it all."""

    @property
    def first(self) -> bool:
        """Does this process keep log and clock?"""

    @property
    def size(self) -> int:
        """How many processes it has."""

    def mine(self, items: Sequence[T]) -> list[tuple[T, float]]:
        """The items that this rank works on, and how much each counts: every rank gets as many, some for nothing."""

    def cut(self, batch: B) -> B:
        """Of these rows what this rank reads."""

    def add(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks that read different tokens."""

    def any(self, *flags: bool) -> list[bool]:
        """Whether each is true at some rank."""

    def clip_gradients(self, lm: HybridLM, most: float) -> float:
        """The norm of the step's gradient, which is scaled down to `most` if it is larger."""


class OneProcess:
    """All of it here."""

    mesh = None
    first = True
    size = 1

    def mine(self, items: Sequence[T]) -> list[tuple[T, float]]:
        return [(item, 1.0) for item in items]

    def cut(self, batch: B) -> B:
        return batch

    def add(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def any(self, *flags: bool) -> list[bool]:
        return list(flags)

    def clip_gradients(self, lm: HybridLM, most: float) -> float:
        return float(torch.nn.utils.clip_grad_norm_(lm.parameters(), most))


class ManyRanks:
    """Rows over the mesh's data ranks, a row's tokens over its context ranks."""

    def __init__(self, mesh: "Mesh") -> None:
        self.mesh = mesh
        self.first = is_first()
        self.size = dist.get_world_size()

    def mine(self, items: Sequence[T]) -> list[tuple[T, float]]:
        rounds = math.ceil(len(items) / self.mesh.data_size)
        numbers = [turn * self.mesh.data_size + self.mesh.data_rank for turn in range(rounds)]
        return [(items[number], 1.0) if number < len(items) else (items[0], 0.0) for number in numbers]

    def cut(self, batch: B) -> B:
        if self.mesh.context is None:
            return batch
        if not hasattr(batch, "map"):
            raise UsageError(
                "what this stage trains on cannot be cut in pieces of rows",
                where="context_parallel",
                remedy="leave --context-parallel at 1",
            )
        return batch.map(self.mesh.context.cut)

    def add(self, values: Sequence[float]) -> list[float]:
        sums = torch.tensor(values, dtype=torch.float64, device=self.mesh.devices.device_type)
        self.mesh.add(sums)
        return sums.tolist()

    def any(self, *flags: bool) -> list[bool]:
        values = torch.tensor(flags, dtype=torch.int32, device=self.mesh.devices.device_type)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return [bool(value) for value in values.tolist()]

    def clip_gradients(self, lm: HybridLM, most: float) -> float:
        self.mesh.finish_gradients(lm)
        return float(self.mesh.clip_gradients(lm, most))
