"""The product x W^T of every linear layer, on the fastest library that plain PyTorch has for it.

On a CPU:
- float32 with AVX-512: oneDNN's inner product by its operator, backward pass included. PyTorch sends these products to MKL,
  which keeps AVX-512 for Intel's processors and on AMD's runs at half the speed of oneDNN (docs/decisions.md).
- bfloat16 on x86 without instructions for it: in float32, rounded. PyTorch's own loops run at a seventh of that rate.
- few rows without gradients, tokens being decoded: `cpu_decoding.matmul`, in half the time or less.
Everything else, other devices included, takes `torch.nn.functional.linear`.

Weights may be kept wider than what they multiply (float32 masters, bfloat16 products): their gradients are then as wide, and
on a GPU are added up in that width from the product on.

Shapes: n tokens, D inputs, F outputs.
"""

import platform
from typing import Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels import cpu_decoding
from model.kernels.masters import gradient_so_far, narrowed

MOST_ROWS = 8
"""Of more rows, a library's product is as fast."""

_WIDE_VECTORS = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
"""Without AVX-512, MKL is the faster of the two."""

_BFLOAT16_IS_EMULATED = (
    torch.backends.mkldnn.is_available()
    and platform.machine().lower() in ("x86_64", "amd64")
    and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
)
"""x86 without the instructions that oneDNN wants for bfloat16."""


def linear(x: Tensor, weight_FD: Tensor, bias_F: Tensor | None = None) -> Tensor:
    """[..., D] -> [..., F] in the dtype of x. Differentiable."""
    if weight_FD.dtype != x.dtype:
        if bias_F is None and torch.is_grad_enabled():
            return _WideLinear.apply(x, weight_FD)
        as_x_FD = weight_FD.to(x.dtype) if torch.is_grad_enabled() else narrowed(weight_FD, x.dtype)
        return linear(x, as_x_FD, None if bias_F is None else bias_F.to(x.dtype))
    if x.numel() <= MOST_ROWS * weight_FD.shape[1] and cpu_decoding.serves_rows(
        x, weight_FD, weight_FD.numel()
    ):
        return cpu_decoding.matmul(x, weight_FD, bias_F)
    if _widens(x.device, x.dtype):
        wide_bias_F = None if bias_F is None else bias_F.float()
        return linear(x.float(), weight_FD.float(), wide_bias_F).to(x.dtype)
    if not _serves(x.device, x.dtype):
        return F.linear(x, weight_FD, bias_F)
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight_FD, bias_F)
    return _inner_product(x, weight_FD, bias_F)


def split_linear(x: Tensor, weight_FD: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
    """`linear(x, weight)` cut into pieces of these widths; no copies then join the pieces' gradients. Differentiable."""
    return _SplitLinear.apply(x, weight_FD, widths)


def input_gradient(
    grad_nF: Tensor, weight_FD: Tensor, *, times: Tensor | None = None, plus: Tensor | None = None
) -> Tensor:
    """grad @ weight [n, D], multiplied by `times` or added to `plus`, either of which has the same shape."""
    if _widens(grad_nF.device, grad_nF.dtype):
        wide_times, wide_plus = (None if t is None else t.float() for t in (times, plus))
        wide_nD = input_gradient(grad_nF.float(), weight_FD.float(), times=wide_times, plus=wide_plus)
        return wide_nD.to(grad_nF.dtype)
    if not _serves(grad_nF.device, grad_nF.dtype):
        if plus is not None:
            return torch.addmm(plus, grad_nF, weight_FD)
        dx_nD = grad_nF @ weight_FD
        return dx_nD if times is None else dx_nD.mul_(times)
    weight_DF = weight_FD.t()
    if times is None and plus is None:
        return _inner_product(grad_nF, weight_DF)
    other, operation = (times, "mul") if plus is None else (plus, "add")
    return torch.ops.mkldnn._linear_pointwise.binary(grad_nF, other, weight_DF, None, operation)


def weight_gradient(grad_nF: Tensor, x_nD: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """grad^T @ x, [F, D], in `dtype` (by default that of x)."""
    dtype = dtype or x_nD.dtype
    if _widens(x_nD.device, x_nD.dtype):
        return weight_gradient(grad_nF.float(), x_nD.float()).to(x_nD.dtype).to(dtype)
    if dtype != x_nD.dtype:
        if x_nD.is_cuda and dtype == torch.float32:
            return torch.mm(grad_nF.t(), x_nD, out_dtype=dtype)
        return weight_gradient(grad_nF, x_nD).to(dtype)
    if not _serves(x_nD.device, x_nD.dtype):
        return grad_nF.t() @ x_nD
    # oneDNN copies its first operand when that is transposed: let it be the smaller one.
    if grad_nF.shape[1] <= x_nD.shape[1]:
        return _inner_product(grad_nF.t(), x_nD.t())
    return _inner_product(x_nD.t(), grad_nF.t()).t()


def add_weight_gradient_(total_FD: Tensor, grad_nF: Tensor, x_nD: Tensor) -> None:
    """total += grad^T @ x, in place, in the dtype of the total, which may be wider."""
    if x_nD.is_cuda and total_FD.dtype == torch.float32 != x_nD.dtype:
        torch.addmm(total_FD, grad_nF.t(), x_nD, out_dtype=torch.float32, out=total_FD)
    else:
        total_FD += weight_gradient(grad_nF, x_nD)


def master_gradient(
    weight_FD: Tensor | None, grad_nF: Tensor, x_nD: Tensor, dtype: torch.dtype
) -> Tensor | None:
    """`weight_gradient` for autograd; None where it has been added to the weight's gradient already."""
    total_FD = gradient_so_far(weight_FD) if x_nD.is_cuda and dtype != x_nD.dtype else None
    if total_FD is None:
        return weight_gradient(grad_nF, x_nD, dtype)
    add_weight_gradient_(total_FD, grad_nF, x_nD)
    return None


def path(device: torch.device, dtype: torch.dtype) -> str:
    """Name of the road that large products take, for `nano2 doctor` and run logs."""
    if _widens(device, dtype):
        return f"{path(device, torch.float32)} in float32"
    return "oneDNN inner product" if _serves(device, dtype) else "torch linear"


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_FD: Tensor, bias_F: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_FD)
        ctx.has_bias = bias_F is not None
        return _inner_product(x, weight_FD, bias_F)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_FD = ctx.saved_tensors
        grad_nF, x_nD = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        dx = input_gradient(grad_nF, weight_FD).view(x.shape) if ctx.needs_input_grad[0] else None
        dweight = weight_gradient(grad_nF, x_nD) if ctx.needs_input_grad[1] else None
        return dx, dweight, grad_nF.sum(0) if ctx.has_bias else None


class _WideLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_FD: Tensor) -> Tensor:
        as_x_FD = narrowed(weight_FD, x.dtype)
        ctx.save_for_backward(x, as_x_FD)
        ctx.master = ref(weight_FD)
        ctx.weight_dtype = weight_FD.dtype
        return linear(x, as_x_FD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, as_x_FD = ctx.saved_tensors
        grad_nF, x_nD = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        dx = input_gradient(grad_nF, as_x_FD).view(x.shape) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return dx, None
        return dx, master_gradient(ctx.master(), grad_nF, x_nD, ctx.weight_dtype)


class _SplitLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_FD: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
        as_x_FD = narrowed(weight_FD, x.dtype)
        ctx.save_for_backward(x, as_x_FD)
        ctx.widths, ctx.weight_dtype = widths, weight_FD.dtype
        return tuple(linear(x, piece) for piece in as_x_FD.split(widths))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_FD = ctx.saved_tensors
        x_nD = x.reshape(-1, x.shape[-1])
        dweight_FD, dx_nD = torch.empty_like(weight_FD, dtype=ctx.weight_dtype), None
        pieces = zip(grads, weight_FD.split(ctx.widths), dweight_FD.split(ctx.widths), strict=True)
        for grad, piece_FD, dpiece_FD in pieces:
            grad_nF = grad.reshape(-1, grad.shape[-1])
            dpiece_FD.copy_(weight_gradient(grad_nF, x_nD, ctx.weight_dtype))
            dx_nD = input_gradient(grad_nF, piece_FD, plus=dx_nD)
        assert dx_nD is not None
        return dx_nD.view(x.shape), dweight_FD, None


def _serves(device: torch.device, dtype: torch.dtype) -> bool:
    return dtype == torch.float32 and device.type == "cpu" and _WIDE_VECTORS


def _widens(device: torch.device, dtype: torch.dtype) -> bool:
    return dtype == torch.bfloat16 and device.type == "cpu" and _BFLOAT16_IS_EMULATED


def _inner_product(x: Tensor, weight_FD: Tensor, bias_F: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(x, weight_FD, bias_F, "none", [], "")
