"""The product x W^T of every linear layer, on the fastest library that plain PyTorch has for it.

PyTorch's CPU build sends float32 products to MKL, which on AMD processors runs at less than half the speed of oneDNN, the
library that the same build uses for convolutions (docs/log.md has the figures). A 1x1 convolution over tokens is the same
product in the same precision, so on a CPU float32 layers take that road, backward pass included. Everything else
(bfloat16, float64, a few rows, other devices) takes `torch.nn.functional.linear`.

Shapes: n tokens, D inputs, F outputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FEW_ROWS = 32
"""Below this many tokens a product is bound by reading W, and the plain road has less overhead."""


def linear(x: Tensor, weight_FD: Tensor, bias_F: Tensor | None = None) -> Tensor:
    """[..., D] -> [..., F] in the dtype of x. Differentiable."""
    if not _takes_convolution(x, weight_FD):
        return F.linear(x, weight_FD, bias_F)
    x_nD = x.reshape(-1, x.shape[-1])
    y = F.conv2d(_as_image(x_nD), weight_FD[:, :, None, None], bias_F)
    return _as_rows(y).view(*x.shape[:-1], weight_FD.shape[0])


def linear_backward(grad_nF: Tensor, x_nD: Tensor, weight_FD: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (of x [n, D], of weight [F, D]) of `linear(x, weight)` without bias."""
    if not _takes_convolution(x_nD, weight_FD):
        return grad_nF @ weight_FD, grad_nF.t() @ x_nD
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        _as_image(grad_nF),
        _as_image(x_nD),
        weight_FD[:, :, None, None],
        None,
        [1, 1],
        [0, 0],
        [1, 1],
        False,
        [0, 0],
        1,
        [True, True, False],
    )
    return _as_rows(dx), dweight[:, :, 0, 0]


def path(device: torch.device, dtype: torch.dtype) -> str:
    """Name of the road that large products take, for `nano2 doctor` and run logs."""
    return "oneDNN 1x1 convolution" if _convolution_serves(device, dtype) else "torch linear"


def _convolution_serves(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _takes_convolution(x: Tensor, weight_FD: Tensor) -> bool:
    return (
        _convolution_serves(x.device, x.dtype)
        and x.numel() >= FEW_ROWS * x.shape[-1]
        and weight_FD.dtype == torch.float32
    )


def _as_image(x_nD: Tensor) -> Tensor:
    """[n, D] rows seen as one image [1, D, 1, n] in channels-last memory: no copy."""
    return x_nD.contiguous()[None, None].permute(0, 3, 1, 2)


def _as_rows(image: Tensor) -> Tensor:
    """The way back: [1, F, 1, n] -> [n, F]."""
    return image.permute(0, 2, 3, 1)[0, 0]
