"""The squared-ReLU feed-forward, down(relu(up(x))^2), that keeps one wide tensor, relu(up(x)), instead of three.

Shapes: B batch, T tokens, n tokens in all, D hidden size, F inner width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels.matmul import input_gradient, linear, weight_gradient


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2, elementwise."""
    positive = torch.relu(x)
    return positive.square() if torch.is_grad_enabled() else positive.square_()


def squared_relu_mlp(x_BTD: Tensor, up_FD: Tensor, down_DF: Tensor) -> Tensor:
    """relu(x up^T)^2 down^T, [B, T, D], in the dtype of x. Differentiable."""
    return _SquaredReLUMLP.apply(x_BTD, up_FD, down_DF)


class _SquaredReLUMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, up_FD: Tensor, down_DF: Tensor) -> Tensor:
        positive_BTF = linear(x_BTD, up_FD).relu_()  # not oneDNN's fused one, which turns NaN into 0
        ctx.save_for_backward(x_BTD, positive_BTF, up_FD, down_DF)
        return linear(positive_BTF.square(), down_DF)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor, ...]:
        x_BTD, positive_BTF, up_FD, down_DF = ctx.saved_tensors
        grad_nD, x_nD, positive_nF = (
            grad_BTD.flatten(0, -2),
            x_BTD.flatten(0, -2),
            positive_BTF.flatten(0, -2),
        )
        # The derivative of relu(h)^2 is 2 relu(h); the 2 waits until the tensors are narrow.
        half_nF = input_gradient(grad_nD, down_DF, times=positive_nF)
        # In place: fresh memory of this size costs more than the squares. Autograd would refuse a second backward pass.
        ddown_DF = weight_gradient(grad_nD, positive_nF.square_())
        dup_FD = weight_gradient(half_nF, x_nD).mul_(2)
        return input_gradient(half_nF, up_FD).mul_(2).view(x_BTD.shape), dup_FD, ddown_DF
