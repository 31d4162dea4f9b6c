"""Against scipy and against the truth: intervals must cover it as often as they say, tests must be wrong as seldom."""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from evals import statistics
from evals.statistics import (
    PairedItems,
    clustered_mean,
    effective_count,
    holm,
    paired_bootstrap,
    pass_at_k,
    pass_at_ks,
    permutation_test,
    wilson_interval,
)

stats = pytest.importorskip("scipy.stats")


def answers(seed: int, count: int = 60, gain: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Right (1) and wrong (0) of two models on the same items."""
    generator = np.random.default_rng(seed)
    hardness = generator.random(count)
    first = generator.random(count) < hardness
    second = generator.random(count) < np.minimum(hardness + gain, 1)
    return first.astype(float), second.astype(float)


class TestAgainstScipy:
    @pytest.mark.parametrize("seed", range(4))
    def test_bootstrap_of_shares(self, seed: int) -> None:
        first, second = answers(seed)
        mine = paired_bootstrap(PairedItems.of_values(first, second), resamples=20_000, seed=seed)
        theirs = stats.bootstrap((second - first,), np.mean, n_resamples=20_000, rng=seed).confidence_interval
        assert mine == pytest.approx(tuple(theirs), abs=1.01 / 60)  # a step of the share

    @pytest.mark.parametrize("seed", range(4))
    def test_bootstrap_of_skewed_differences(self, seed: int) -> None:
        change = np.random.default_rng(seed).exponential(size=30) - 0.6
        mine = paired_bootstrap(PairedItems.of_values(np.zeros(30), change), resamples=20_000, seed=seed)
        theirs = stats.bootstrap((change,), np.mean, n_resamples=20_000, rng=seed).confidence_interval
        assert mine == pytest.approx(tuple(theirs), abs=0.03 * (theirs.high - theirs.low))

    def test_bootstrap_of_a_ratio(self) -> None:
        """A perplexity: words are drawn with the documents that have them."""
        generator = np.random.default_rng(5)
        words = generator.integers(20, 200, 40).astype(float)
        first = -words * generator.normal(3, 0.3, 40)
        second = first + words * generator.normal(0.05, 0.1, 40)

        def score(sums: np.ndarray) -> np.ndarray:
            return np.exp(-sums[..., 0] / sums[..., 1])

        def difference(x: np.ndarray, y: np.ndarray, w: np.ndarray, axis: int = -1) -> np.ndarray:
            total = w.sum(axis)
            return np.exp(-y.sum(axis) / total) - np.exp(-x.sum(axis) / total)

        items = PairedItems(np.column_stack([first, words]), np.column_stack([second, words]), score)
        assert items.difference == pytest.approx(difference(first, second, words))
        theirs = stats.bootstrap(
            (first, second, words), difference, paired=True, n_resamples=10_000, rng=1
        ).confidence_interval
        mine = paired_bootstrap(items, resamples=10_000, seed=2)
        assert mine == pytest.approx(tuple(theirs), abs=0.05 * (theirs.high - theirs.low))

    def test_exact_permutations(self) -> None:
        generator = np.random.default_rng(3)
        for count in (2, 5, 11):
            first = generator.normal(size=count)
            second = first + generator.normal(0.4, 1, count)
            assert permutation_test(PairedItems.of_values(first, second)) == pytest.approx(
                scipy_permutations(first, second, np.inf), abs=1e-12
            )

    def test_few_flips_among_many_items_are_counted_exactly(self) -> None:
        """As McNemar's exact test does: items on which both agree say nothing."""
        first, second = np.zeros(500), np.zeros(500)
        second[:9], first[9:11] = 1, 1
        expected = stats.binomtest(2, 11, 0.5).pvalue
        assert permutation_test(PairedItems.of_values(first, second)) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("seed", range(3))
    def test_drawn_permutations(self, seed: int) -> None:
        first, second = answers(seed, 150, 0.1)
        mine = permutation_test(PairedItems.of_values(first, second), permutations=20_000, seed=seed)
        assert mine == pytest.approx(scipy_permutations(first, second, 20_000), abs=0.015)

    @pytest.mark.parametrize(("right", "trials"), [(0, 5), (3, 10), (10, 10), (47, 200)])
    def test_wilson(self, right: int, trials: int) -> None:
        theirs = stats.binomtest(right, trials).proportion_ci(method="wilson")
        assert wilson_interval(right / trials, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-9)

    def test_holm(self) -> None:
        """scipy has Bonferroni's sequel only for false discoveries, so: by the definition."""
        p = [0.01, 0.04, 0.03, 0.005, 0.9]
        assert holm(p) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.9])
        assert holm([]) == []
        assert holm([0.6, 0.7]) == [1.0, 1.0]


def scipy_permutations(first: np.ndarray, second: np.ndarray, resamples: float) -> float:
    def difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return y.mean(axis) - x.mean(axis)

    return float(
        stats.permutation_test(
            (first, second),
            difference,
            permutation_type="samples",
            n_resamples=resamples,
            vectorized=True,
            rng=0,
        ).pvalue
    )


class TestBySimulation:
    """The bounds are four standard errors of the simulation itself, and for the bootstrap what it is known to lack."""

    def coverage(
        self, trial: Callable[[np.random.Generator], tuple[float, float]], truth: float, trials: int
    ) -> float:
        generator = np.random.default_rng(7)
        intervals = [trial(generator) for _ in range(trials)]
        return sum(low <= truth <= high for low, high in intervals) / trials

    def test_the_bootstrap_covers_the_difference(self) -> None:
        """Items of all degrees of difficulty, 100 of them; the second model solves a tenth of the rest more."""

        def trial(generator: np.random.Generator) -> tuple[float, float]:
            hardness = generator.random(100)
            first = generator.random(100) < hardness
            second = generator.random(100) < hardness + 0.1 * (1 - hardness)
            items = PairedItems.of_values(first.astype(float), second.astype(float))
            return paired_bootstrap(items, resamples=1000, seed=int(generator.integers(2**31)))

        assert 0.95 - 0.04 <= self.coverage(trial, 0.05, 500) <= 0.95 + 0.04

    def test_wilson_covers_the_accuracy_of_repeated_answers(self) -> None:
        """60 items, 4 answers each: as 240 trials the interval would be much too short."""

        def trial(generator: np.random.Generator) -> tuple[float, float]:
            chance = generator.beta(1, 1, 60)
            right = generator.random((60, 4)) < chance[:, None]
            found = clustered_mean(right.astype(float).tolist())
            return wilson_interval(found.mean, effective_count(found.mean, found.stderr, found.items))

        def naive(generator: np.random.Generator) -> tuple[float, float]:
            chance = generator.beta(1, 1, 60)
            return wilson_interval(float((generator.random((60, 4)) < chance[:, None]).mean()), 240)

        assert 0.95 - 0.03 <= self.coverage(trial, 0.5, 1000) <= 0.95 + 0.03
        assert self.coverage(naive, 0.5, 1000) < 0.9

    @pytest.mark.parametrize("count", [12, 80])
    def test_alike_models_are_seldom_called_different(self, count: int) -> None:
        """At 5%: never more often than that, beyond the noise of 600 trials; exact and drawn permutations."""
        generator = np.random.default_rng(11)
        false = 0
        for _ in range(600):
            hardness = generator.random(count)
            first, second = (generator.random((2, count)) < hardness).astype(float)
            items = PairedItems.of_values(first, second)
            false += permutation_test(items, permutations=999, seed=int(generator.integers(2**31))) <= 0.05
        assert false / 600 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 600)

    def test_a_difference_is_found(self) -> None:
        generator = np.random.default_rng(13)
        found = 0
        for trial in range(100):
            first = generator.normal(size=40)
            second = first + generator.normal(0.5, 1, 40)
            found += (
                permutation_test(PairedItems.of_values(first, second), permutations=999, seed=trial) <= 0.05
            )
        assert found > 75  # the t test finds 0.87 of them

    def test_the_two_parts_of_a_standard_error(self) -> None:
        """Between items: variance 1/12 over 400; within: mean p(1 - p) = 1/6 over 5 answers and 400 items."""
        generator = np.random.default_rng(17)
        found = [
            clustered_mean(
                (generator.random((400, 5)) < generator.random(400)[:, None]).astype(float).tolist()
            )
            for _ in range(200)
        ]
        assert np.mean([each.between**2 for each in found]) == pytest.approx(1 / 12 / 400, rel=0.03)
        assert np.mean([each.within**2 for each in found]) == pytest.approx(1 / 6 / 5 / 400, rel=0.02)
        true = np.std([each.mean for each in found])
        assert np.sqrt(np.mean([each.stderr**2 for each in found])) == pytest.approx(true, rel=0.2)


class TestPassAtK:
    def test_is_the_share_of_draws_with_a_right_answer(self) -> None:
        for right in range(7):
            marks = [1] * right + [0] * (6 - right)
            for k in range(1, 7):
                draws = [any(draw) for draw in combinations(marks, k)]
                assert pass_at_k(6, right, k) == pytest.approx(sum(draws) / len(draws))

    def test_is_unbiased(self) -> None:
        generator = np.random.default_rng(1)
        estimates = [pass_at_k(8, int(right), 4) for right in generator.binomial(8, 0.3, 4000)]
        assert np.mean(estimates) == pytest.approx(1 - 0.7**4, abs=0.02)

    def test_ks(self) -> None:
        assert [pass_at_ks(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]

    @pytest.mark.parametrize("arguments", [(4, 5, 1), (4, 1, 5), (4, 1, 0), (4, -1, 1)])
    def test_nonsense_is_refused(self, arguments: tuple[int, int, int]) -> None:
        with pytest.raises(ValueError):
            pass_at_k(*arguments)


class TestEdges:
    def test_one_item_has_no_standard_error(self) -> None:
        found = clustered_mean([[1.0, 0.0]])
        assert found.mean == 0.5
        assert math.isnan(found.stderr)
        with pytest.raises(ValueError, match="two items"):
            paired_bootstrap(PairedItems.of_values([1.0], [0.0]))

    def test_an_item_without_answers_is_refused(self) -> None:
        with pytest.raises(ValueError, match="without a value"):
            clustered_mean([[1.0], []])

    def test_no_difference_at_all(self) -> None:
        items = PairedItems.of_values([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
        assert paired_bootstrap(items) == (0.0, 0.0)
        assert permutation_test(items) == 1.0

    def test_unequal_numbers_of_answers(self) -> None:
        found = clustered_mean([[1.0, 0.0], [1.0], [0.0, 0.0, 0.0]])
        assert found.mean == pytest.approx(0.5)
        assert found.stderr == pytest.approx(np.std([0.5, 1, 0], ddof=1) / math.sqrt(3))
        assert math.isnan(found.within)

    @pytest.mark.parametrize(("mean", "count"), [(0.0, 20), (1.0, 20)])
    def test_wilson_where_all_are_alike(self, mean: float, count: int) -> None:
        low, high = wilson_interval(mean, effective_count(mean, 0.0, count))
        assert 0 <= low <= mean <= high <= 1
        assert high - low == pytest.approx(1.96**2 / (count + 1.96**2), abs=1e-3)

    def test_the_same_seed_gives_the_same_numbers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = answers(2, 90)
        items = PairedItems.of_values(first, second)
        assert paired_bootstrap(items, seed=4) == paired_bootstrap(items, seed=4)
        assert permutation_test(items, seed=4) == permutation_test(items, seed=4)
        whole = permutation_test(items, permutations=5000, seed=4)
        monkeypatch.setattr(statistics, "_NUMBERS_AT_A_TIME", 2**12)
        assert permutation_test(items, permutations=5000, seed=4) == pytest.approx(whole, abs=0.02)
