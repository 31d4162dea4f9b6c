"""A linear layer whose weights may be kept wider than the activations (float32 masters, bfloat16 products)."""

from collections.abc import Callable

from torch import Tensor, nn

from model.kernels.matmul import linear

Product = Callable[[Tensor, Tensor], Tensor]
"""x [..., D] and the weight [F, D] as it is kept, to x weight^T [..., F] in the dtype of x. Differentiable."""


class Linear(nn.Linear):
    """`torch.nn.Linear` that computes in the dtype of its input."""

    product: Product | None = None
    """What multiplies instead of `model.kernels.matmul`, such as an 8-bit product; only without a bias."""

    def forward(self, x: Tensor) -> Tensor:
        if self.product is not None:
            return self.product(x, self.weight)
        return linear(x, self.weight, self.bias)
