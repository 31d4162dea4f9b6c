"""Squared ReLU that keeps one tensor, relu(x), instead of two."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2, elementwise."""
    if torch.is_grad_enabled():
        return _SquaredReLU.apply(x)
    return torch.relu(x).square_()


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)
