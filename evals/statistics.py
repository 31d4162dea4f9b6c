"""How sure a measurement is: standard errors, intervals, pass@k, and tests of a difference between two models.

Nothing here but numpy. What is compared is paired, item by item: two models meet the same questions, and the items differ
far more among themselves than the models do. Everything random takes a seed and gives the same number again.

Shapes: I items, R answers to each item, P resamples or permutations, S sums that a score is made of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXACT_ITEMS = 16
"""A sign-flip test with at most so many differences unlike zero goes through all 2^n signs; with more, it draws them."""

_NUMBERS_AT_A_TIME = 2**22
"""Random numbers that are held at a time."""

_TIE = 1e-12
"""Scores so close, relative to 1 or to themselves, are the same: they are sums of the same numbers in another order."""


@dataclass(frozen=True)
class ClusteredMean:
    """The mean over items of which several answers are drawn.

    stderr: its standard error, from the variance of the items' means; answers to one item are no independent
    measurements, so R answers to I items are no I x R items. within: the part of it that more answers an item would
    take away; between: the part that only more items would. stderr^2 = within^2 + between^2, unless the estimate of
    `within` is larger than all of it, and `between` is 0. NaN where there is one item, or one answer.
    """

    mean: float
    stderr: float
    within: float
    between: float
    items: int


def clustered_mean(values: Sequence[Sequence[float]]) -> ClusteredMean:
    """`values[i]` are the answers' scores of item i; their numbers may differ. ValueError if one has none."""
    groups = [np.asarray(group, dtype=np.float64) for group in values]
    if not groups or any(group.size == 0 for group in groups):
        raise ValueError("there is an item without a value")
    means = np.array([group.mean() for group in groups])
    count = len(groups)
    stderr = float(means.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    within = between = float("nan")
    if all(group.size > 1 for group in groups):
        within = float(np.sqrt(sum(group.var(ddof=1) / group.size for group in groups)) / count)
        between = float(np.sqrt(max(stderr**2 - within**2, 0.0)))
    return ClusteredMean(float(means.mean()), stderr, within, between, count)


def wilson_interval(mean: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share `mean` out of `count` trials.

    It stays in [0, 1] and means something at 0 and 1, where mean and standard error do not. `count` need not be whole:
    `effective_count` gives the number of independent items that a clustered standard error is worth.
    """
    if not (0 <= mean <= 1 and count > 0):
        raise ValueError(f"no share out of so many trials: {mean} of {count}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = (mean + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def effective_count(mean: float, stderr: float, count: int) -> float:
    """Trials of a coin that would give this standard error; `count` where mean or standard error cannot tell."""
    variance = mean * (1 - mean)
    return variance / stderr**2 if variance > 0 and stderr > 0 else float(count)


def pass_at_k(answers: int, right: int, k: int) -> float:
    """The chance that one of k answers is right, estimated without bias from `answers` of which `right` are.

    Source: Chen et al. 2021 (arXiv 2107.03374). ValueError unless k is at most `answers`.
    """
    if not (0 <= right <= answers and 1 <= k <= answers):
        raise ValueError(f"pass@{k} cannot be told from {answers} answers, {right} of them right")
    return 1.0 - comb(answers - right, k) / comb(answers, k)


def pass_at_ks(answers: int) -> list[int]:
    """The k that are reported for so many answers: 1, 2, 4, ... and the number itself."""
    return sorted({answers, *(2**power for power in range(answers.bit_length()) if 2**power <= answers)})


Score = Callable[[Array], Array]
"""From sums [..., S] over items to scores [...]."""


def mean_score(sums: Array) -> Array:
    """The score that is a mean: of the sums (value, number of items)."""
    return sums[..., 0] / sums[..., 1]


@dataclass(frozen=True)
class PairedItems:
    """Two models' items side by side: `first` and `second` are [I, S], whose sums over items `score` turns into a score.

    A mean has S = 2, the value and the number 1; a perplexity has the log-likelihood and the number of words.
    """

    first: Array
    second: Array
    score: Score = mean_score

    @classmethod
    def of_values(cls, first: Sequence[float], second: Sequence[float]) -> "PairedItems":
        """Items whose score is the mean of their values."""
        ones = np.ones(len(first))
        return cls(np.column_stack([first, ones]), np.column_stack([second, ones]))

    @property
    def difference(self) -> float:
        """The second score less the first."""
        return float(self.score(self.second.sum(0)) - self.score(self.first.sum(0)))


def paired_bootstrap(
    items: PairedItems, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Interval of the difference: items are drawn with replacement, both models' together.

    Bias-corrected and accelerated (Efron 1987). Where all items differ alike, no resample differs, and the interval is
    the difference itself: with few items that says little. ValueError for fewer than two items.
    """
    count = len(items.first)
    if count < 2:
        raise ValueError("an interval needs two items or more")
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            _difference(items, weights @ items.first, weights @ items.second)
            for size in _portions(resamples, count)
            for weights in [generator.multinomial(count, np.full(count, 1 / count), size=size)]
        ]
    )
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if (adjusted := _bca_levels(items, drawn, tails)) is not None:
        tails = adjusted
    low, high = np.quantile(drawn, tails)
    return float(low), float(high)


def _bca_levels(items: PairedItems, drawn: Array, tails: Array) -> Array | None:
    """The levels at which the resampled differences are read, None where the correction has no meaning."""
    normal = NormalDist()
    observed = items.difference
    tie = _TIE * max(1.0, abs(observed))
    below = float(((drawn < observed - tie).mean() + (drawn <= observed + tie).mean()) / 2)
    left_out = _difference(items, items.first.sum(0) - items.first, items.second.sum(0) - items.second)
    deviation = left_out.mean() - left_out
    spread = float((deviation**2).sum())
    if not (0 < below < 1 and spread > 0):
        return None
    bias = normal.inv_cdf(below)
    acceleration = float((deviation**3).sum()) / (6 * spread**1.5)
    levels = []
    for tail in tails:
        shifted = bias + normal.inv_cdf(float(tail))
        levels.append(normal.cdf(bias + shifted / (1 - acceleration * shifted)))
    return np.array(levels)


def permutation_test(items: PairedItems, *, permutations: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of no difference: if the models are alike, which of the two gave which result is a coin's throw.

    The results of each item change places or stay. With at most EXACT_ITEMS items that differ all ways are counted;
    with more, `permutations` are drawn, and the observed one counts among them, so that p is never 0.
    """
    differing = np.flatnonzero((items.first != items.second).any(1))
    if not len(differing):
        return 1.0
    change = (items.second - items.first)[differing]
    exact = len(differing) <= EXACT_ITEMS
    generator = np.random.default_rng(seed)
    observed = abs(items.difference)
    extreme = total = 0
    for size in _portions(2 ** len(differing) if exact else permutations, len(differing)):
        if exact:
            numbers = np.arange(total, total + size)[:, None]
            swapped = (numbers >> np.arange(len(differing)) & 1).astype(np.float64)
        else:
            swapped = generator.integers(0, 2, size=(size, len(differing))).astype(np.float64)
        moved = swapped @ change
        drawn = _difference(items, items.first.sum(0) + moved, items.second.sum(0) - moved)
        extreme += int((np.abs(drawn) >= observed - _TIE * max(1.0, observed)).sum())
        total += size
    return extreme / total if exact else (extreme + 1) / (total + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, so raised that the chance of any false one stays below the level (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: (p_values[index], index))
    raised = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        raised[index] = highest
    return raised


def _difference(items: PairedItems, first: Array, second: Array) -> Array:
    return items.score(second) - items.score(first)


def _portions(total: int, width: int) -> list[int]:
    """`total` rows in portions whose numbers fit into memory."""
    rows = max(1, _NUMBERS_AT_A_TIME // max(1, width))
    edges = [*range(0, total, rows), total]
    return [end - start for start, end in pairwise(edges)]
