"""The squared-ReLU feed-forward, down(relu(up(x))^2), that keeps one wide tensor, relu(up(x)), instead of three.

Shapes: B batch, T tokens, n tokens in all, D hidden size, F inner width.
"""

from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels import choice
from model.kernels.masters import narrowed
from model.kernels.matmul import input_gradient, linear, master_gradient, weight_gradient


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2, elementwise. Differentiable."""
    if choice.fused(x):
        return _FusedSquaredReLU.apply(x.contiguous())
    positive = torch.relu(x)
    return positive.square() if torch.is_grad_enabled() else positive.square_()


def squared_relu_mlp(x_BTD: Tensor, up_FD: Tensor, down_DF: Tensor) -> Tensor:
    """relu(x up^T)^2 down^T, [B, T, D], in the dtype of x; the weights may be wider. Differentiable."""
    return _SquaredReLUMLP.apply(x_BTD, up_FD, down_DF)


class _FusedSquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from model.kernels.cuda import squared_relu as fused

        ctx.save_for_backward(x)
        return fused.squared_relu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.relu(x).mul_(grad).mul_(2)


class _SquaredReLUMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, up_FD: Tensor, down_DF: Tensor) -> Tensor:
        up_as_x_FD, down_as_x_DF = narrowed(up_FD, x_BTD.dtype), narrowed(down_DF, x_BTD.dtype)
        ctx.dtypes, ctx.masters = (up_FD.dtype, down_DF.dtype), (ref(up_FD), ref(down_DF))
        inner_BTF = linear(x_BTD, up_as_x_FD)
        if choice.fused(inner_BTF):
            from model.kernels.cuda import squared_relu as fused

            ctx.save_for_backward(x_BTD, inner_BTF, up_as_x_FD, down_as_x_DF)
            return linear(fused.squared_relu(inner_BTF), down_as_x_DF)
        positive_BTF = inner_BTF.relu_()  # not oneDNN's fused one, which turns NaN into 0
        ctx.save_for_backward(x_BTD, positive_BTF, up_as_x_FD, down_as_x_DF)
        return linear(positive_BTF.square(), down_as_x_DF)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, inner_BTF, up_FD, down_DF = ctx.saved_tensors
        up_dtype, down_dtype = ctx.dtypes
        grad_nD, x_nD, inner_nF = (
            grad_BTD.flatten(0, -2),
            x_BTD.flatten(0, -2),
            inner_BTF.flatten(0, -2),
        )
        # In place: fresh memory of this size costs more than the squares. Autograd would refuse a second backward pass.
        if choice.fused(inner_nF):
            from model.kernels.cuda import squared_relu as fused

            dinner_nF = input_gradient(grad_nD, down_DF)
            fused.squared_relu_backward_(dinner_nF, inner_nF)
            up, down = ctx.masters
            ddown_DF = master_gradient(down(), grad_nD, inner_nF, down_dtype)
            dup_FD = master_gradient(up(), dinner_nF, x_nD, up_dtype)
            return input_gradient(dinner_nF, up_FD).view(x_BTD.shape), dup_FD, ddown_DF
        # The derivative of relu(h)^2 is 2 relu(h); the 2 waits until the tensors are narrow.
        half_nF = input_gradient(grad_nD, down_DF, times=inner_nF)
        ddown_DF = weight_gradient(grad_nD, inner_nF.square_(), down_dtype)
        dup_FD = weight_gradient(half_nF, x_nD, up_dtype).mul_(2)
        return input_gradient(half_nF, up_FD).mul_(2).view(x_BTD.shape), dup_FD, ddown_DF
