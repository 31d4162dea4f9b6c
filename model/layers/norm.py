"""Normalization layers; weights are named `weight`, as on disk."""

import torch
from torch import Tensor, nn

from model.kernels.normalization import gated_rms_norm, rms_norm


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_BTD: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return rms_norm(x_BTD, self.weight, self.eps, dtype)

    def residual(self, x_BTD: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """x as it is, to add to, and its norm: on a GPU, where one pass adds up their gradients. Hooks do not see it."""
        from model.kernels.cuda.norms import FusedResidualNorm

        return FusedResidualNorm.apply(x_BTD, self.weight, self.eps, dtype)


class GatedRMSNorm(nn.Module):
    """RMSNorm of y * silu(gate) within groups of channels: the gate comes first, then the norm."""

    def __init__(self, width: int, eps: float, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps
        self.groups = groups

    def forward(self, y_BTD: Tensor, gate_BTD: Tensor) -> Tensor:
        return gated_rms_norm(y_BTD, gate_BTD, self.weight, self.eps, self.groups)
