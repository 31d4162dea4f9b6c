"""From activations to one score a unit: over the tokens of each sample, then over the samples.

Shapes: B samples, T tokens, u the axes of the units.
"""

from __future__ import annotations

from torch import Tensor

from stages.prune.importance.settings import Aggregation


class Scores:
    """A running aggregate of |activations|; `mean` and `l2` as in Minitron (arXiv 2407.14679, section 2.2):

        mean(x) = sum |x_i| / n        l2(x) = sqrt(sum x_i^2)

    over the tokens of a sample first, then over the samples. With the defaults, mean and l2, this is the score of
    ModelOpt: the root of the sum over samples of (mean over tokens of |x|)^2. Sums are kept in float64.
    """

    def __init__(self, over_sequence: Aggregation, over_batch: Aggregation) -> None:
        self._over_sequence, self._over_batch = over_sequence, over_batch
        self._sum_u: Tensor | float = 0.0
        self._samples = 0

    def add(self, activations_BTu: Tensor, real_BT: Tensor) -> None:
        """Count these samples; tokens where `real_BT` is False are padding."""
        size_BTu = activations_BTu.abs().float() * real_BT[(..., *(None,) * (activations_BTu.ndim - 2))]
        if self._over_sequence == "mean":
            tokens_B = real_BT.sum(1).clamp(min=1)
            per_sample_Bu = size_BTu.sum(1) / tokens_B[(..., *(None,) * (size_BTu.ndim - 2))]
        else:
            per_sample_Bu = size_BTu.square().sum(1).sqrt()
        wide_Bu = per_sample_Bu.double()
        self._sum_u = self._sum_u + (wide_Bu if self._over_batch == "mean" else wide_Bu.square()).sum(0)
        self._samples += len(activations_BTu)

    def result(self) -> Tensor:
        """[u] in float32 on the CPU."""
        assert isinstance(self._sum_u, Tensor), "nothing was counted"
        total_u = self._sum_u / self._samples if self._over_batch == "mean" else self._sum_u.sqrt()
        return total_u.float().cpu()


class MeanSquare:
    """A running mean square over all tokens of all samples."""

    def __init__(self) -> None:
        self._sum_u: Tensor | float = 0.0
        self._tokens = 0

    def add(self, values_BTu: Tensor, real_BT: Tensor) -> None:
        """Count these samples' tokens where `real_BT` is True."""
        square_BTu = values_BTu.float().square() * real_BT[(..., *(None,) * (values_BTu.ndim - 2))]
        self._sum_u = self._sum_u + square_BTu.sum((0, 1)).double()
        self._tokens += int(real_BT.sum())

    def result(self) -> Tensor:
        """[u] in float32 on the CPU."""
        assert isinstance(self._sum_u, Tensor), "nothing was counted"
        return (self._sum_u / self._tokens).float().cpu()
