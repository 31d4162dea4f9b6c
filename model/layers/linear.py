"""A linear layer whose weights may be kept wider than the activations (float32 masters, bfloat16 products)."""

from torch import Tensor, nn

from model.kernels.matmul import linear


class Linear(nn.Linear):
    """`torch.nn.Linear` that computes in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dtype == x.dtype:
            return linear(x, self.weight, self.bias)
        return linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
