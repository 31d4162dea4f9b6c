"""Running out of memory in the middle of a run, said as what a user can change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from model.errors import PlanRefusedError
from stages.common.training.settings import LayerKind, TrainingSettings

_SIGNS = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
"""Of PyTorch's allocator on a CPU, of CUDA itself, and of its libraries."""


@contextmanager
def memory_for(phase: str, where: str, settings: TrainingSettings) -> Iterator[None]:
    """PlanRefusedError where memory runs out in here. `phase`: such as "the forward pass"."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise PlanRefusedError(
            f"out of memory in {phase} ({str(error).splitlines()[0] or type(error).__name__})",
            where=where,
            remedy=f"{', '.join(_helps(settings))}; the same command then continues from the state saved last",
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """PyTorch's allocator of a GPU has an error of its own; others are told by their words."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        sign in str(error) for sign in _SIGNS
    )


def _helps(settings: TrainingSettings) -> list[str]:
    """What takes less, the cheapest first."""
    helps = []
    if settings.micro_batch > 1:
        helps.append(f"lower --micro-batch ({settings.micro_batch})")
    kinds: list[LayerKind] = ["mlp", "mamba", "attention"]
    if kept := [kind for kind in kinds if kind not in settings.recompute]:
        helps.append(f"pass --recompute {','.join([*settings.recompute, *kept])}")
    helps.append("or start more ranks with torchrun, which share the parameters")
    return helps
