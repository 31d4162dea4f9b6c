"""A linear layer whose weights may be kept wider than the activations (float32 masters, bfloat16 products)."""

from torch import Tensor, nn

from model.kernels.matmul import linear


class Linear(nn.Linear):
    """`torch.nn.Linear` that computes in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight_as(x), None if self.bias is None else self.bias.to(x.dtype))

    def weight_as(self, x: Tensor) -> Tensor:
        """The weight in the dtype of `x`."""
        weight = self.weight
        return weight if weight.dtype == x.dtype else weight.to(x.dtype)
