"""Master weights on a GPU, float32 while what they multiply is narrower.

What is made of a weight for its products is kept until the optimizer changes it, for all micro-batches of a step. Its
gradient is added up in float32 by the product that computes it, from a step's second micro-batch on.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakTensorKeyDictionary

M = TypeVar("M")


class Made(Generic[M]):
    """What `make` makes of weights, until they change."""

    def __init__(self, make: Callable[[Tensor], M]) -> None:
        self._make = make
        self._kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def of(self, weight: Tensor) -> M:
        state = (weight._version, weight.data_ptr(), _steps_taken)
        kept = self._kept.get(weight)
        if kept is None or kept[0] != state:
            self._kept.pop(weight, None)  # its memory is for the new one
            kept = (state, self._make(weight.detach()))
            self._kept[weight] = kept
        return kept[1]

    def release(self) -> None:
        """Keep nothing."""
        self._kept.clear()


_bfloat16: Made[Tensor] = Made(lambda weight: weight.to(torch.bfloat16))


def narrowed(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight in `dtype`, without a gradient."""
    if weight.is_cuda and weight.is_leaf and weight.requires_grad and dtype == torch.bfloat16 != weight.dtype:
        return _bfloat16.of(weight)
    return weight.detach().to(dtype)


def gradient_so_far(weight: Tensor | None) -> Tensor | None:
    """A parameter's gradient where it may be added to in place, outside of autograd; None where autograd has to see it."""
    if weight is None or not weight.is_leaf or weight.grad is None or weight._post_accumulate_grad_hooks:
        return None
    return weight.grad if weight.grad.dtype == torch.float32 and weight.grad.is_contiguous() else None


_steps_taken = 0


def _count_step(*_: object) -> None:
    global _steps_taken
    _steps_taken += 1


# A fused optimizer writes weights without counting up their version.
register_optimizer_step_post_hook(_count_step)
