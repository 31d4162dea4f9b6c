"""The 8-bit product of a linear layer and its gradients, whoever computes them.

Three products, all of E4M3 operands with sums in float32 (report, section 2.1): y = x W^T, dx = dy W, dW = dy^T x. What is
quantized, and how the sums are made, is an `Arithmetic`: `model.precision.emulation` anywhere, `model.precision.
transformer_engine` on an NVIDIA GPU. Master weights stay float32, and so does the sum of their gradient.

Without gradients the layer computes as it would have without FP8: what is validated is the model as its artifact is read.

Shapes: n tokens, D input width, F output width.
"""

from typing import Any, Protocol, TypeVar
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.kernels.masters import Made, gradient_so_far
from model.kernels.matmul import linear

ROWS = 16
"""The kernels want tokens in such multiples, since tokens are the inner dimension of dW."""

Q = TypeVar("Q")


class Arithmetic(Protocol[Q]):
    """How operands become 8-bit ones (Q) and are multiplied. An operand serves the forward and the backward product."""

    def quantize_input(self, x_nD: Tensor) -> Q: ...

    def quantize_weight(self, weight_FD: Tensor) -> Q: ...

    def quantize_gradient(self, grad_nF: Tensor) -> Q: ...

    def multiply(self, x: Q, weight: Q, dtype: torch.dtype) -> Tensor:
        """x W^T, [n, F]."""

    def input_gradient(self, grad: Q, weight: Q, dtype: torch.dtype) -> Tensor:
        """dy W, [n, D]."""

    def weight_gradient(self, grad: Q, x: Q, dtype: torch.dtype, total: Tensor | None) -> Tensor:
        """dy^T x, [F, D]; added to `total` in place where there is one."""

    def save(self, x: Q) -> tuple[Any, list[Tensor]]:
        """Of an input what its weight gradient needs: tensors, and what makes an operand of them again."""

    def restore(self, shell: Any, tensors: list[Tensor]) -> Q: ...


class Product:
    """What `Linear.product` calls. One a layer: it keeps the layer's quantized weight until the optimizer's next step.

    keep_weight: False where the weight comes and goes (FSDP2 gathers it for one pass): it is quantized for each pass then,
    and nothing of it is held between forward and backward.
    """

    def __init__(self, arithmetic: Arithmetic[Any], *, keep_weight: bool = True) -> None:
        self.arithmetic, self.keep_weight = arithmetic, keep_weight
        self._weights: Made[Any] = Made(arithmetic.quantize_weight)

    def __call__(self, x: Tensor, weight_FD: Tensor) -> Tensor:
        """[..., D] -> [..., F] in the dtype of x. Differentiable."""
        if not torch.is_grad_enabled():
            return linear(x, weight_FD)
        x_nD = x.reshape(-1, x.shape[-1])
        tokens = len(x_nD)
        if tokens % ROWS:  # rows of zeros change no scale and add nothing
            x_nD = F.pad(x_nD, (0, 0, 0, -tokens % ROWS))
        y_nF = _Product.apply(x_nD, weight_FD, self)
        return y_nF[:tokens].view(*x.shape[:-1], -1)

    def release(self) -> None:
        """Keep no quantized weight."""
        self._weights.release()

    def quantized_weight(self, weight_FD: Tensor) -> Any:
        """The weight as its products take it; once for all micro-batches of an optimizer step."""
        return self._weights.of(weight_FD) if self.keep_weight else self.arithmetic.quantize_weight(weight_FD)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_nD: Tensor, weight_FD: Tensor, product: Product) -> Tensor:
        arithmetic = product.arithmetic
        quantized_x, quantized_weight = arithmetic.quantize_input(x_nD), product.quantized_weight(weight_FD)
        y_nF = arithmetic.multiply(quantized_x, quantized_weight, x_nD.dtype)
        ctx.product = product
        ctx.shell, tensors = arithmetic.save(quantized_x)
        # Saved by autograd, so that a block which is computed again lets go of its input, and FSDP2 of its weight.
        ctx.save_for_backward(weight_FD, *tensors)
        ctx.quantized_weight = quantized_weight if product.keep_weight else None
        ctx.parameter = ref(weight_FD)
        return y_nF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nF: Tensor) -> tuple[Tensor | None, ...]:
        arithmetic = ctx.product.arithmetic
        weight_FD, *tensors = ctx.saved_tensors
        quantized_grad = arithmetic.quantize_gradient(grad_nF.contiguous())
        dx_nD = dweight_FD = None
        if ctx.needs_input_grad[0]:
            quantized_weight = ctx.quantized_weight
            if quantized_weight is None:
                quantized_weight = arithmetic.quantize_weight(weight_FD)
            dx_nD = arithmetic.input_gradient(quantized_grad, quantized_weight, grad_nF.dtype)
        if ctx.needs_input_grad[1]:
            quantized_x = arithmetic.restore(ctx.shell, tensors)
            total_FD = gradient_so_far(ctx.parameter()) if ctx.product.keep_weight else None
            dweight_FD = arithmetic.weight_gradient(quantized_grad, quantized_x, weight_FD.dtype, total_FD)
            if total_FD is not None:
                dweight_FD = None
        return dx_nD, dweight_FD, None
