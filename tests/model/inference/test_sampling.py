"""Each row by its own rule; draws that depend on seed and position alone."""

import math
from collections import Counter

import pytest
import torch

from model.errors import UsageError
from model.inference.sampling import GREEDY, SamplingParams, sample, uniform

VOCAB = 40


def logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def draws(params: SamplingParams, row: torch.Tensor, count: int) -> Counter[int]:
    """How often each token comes, over the first positions of a request."""
    sampled = sample(row.expand(count, -1), [params] * count, range(count))
    return Counter(sampled.token_B.tolist())


def test_greedy_takes_the_most_probable_token_and_tells_its_logprob() -> None:
    logits_BV = logits(5)
    sampled = sample(logits_BV, [GREEDY] * 5, [0] * 5)
    expected = logits_BV.log_softmax(1).max(1)
    assert sampled.token_B.tolist() == expected.indices.tolist()
    torch.testing.assert_close(sampled.logprob_B, expected.values)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_those_of_the_tempered_distribution(temperature: float) -> None:
    row, count = logits(1), 20_000
    expected = (row[0] / temperature).softmax(0)
    counts = draws(SamplingParams(temperature), row, count)
    for token in range(VOCAB):
        probability = expected[token].item()
        deviation = math.sqrt(probability * (1 - probability) / count)
        assert abs(counts[token] / count - probability) < 5 * deviation + 1e-9


def test_logprob_is_the_models_own_whatever_the_temperature() -> None:
    row = logits(1)
    sampled = sample(row, [SamplingParams(3.0, top_k=5, seed=1)], [0])
    torch.testing.assert_close(sampled.logprob_B, row.log_softmax(1)[:, sampled.token_B[0]])


def test_top_k_keeps_the_k_most_probable_tokens_in_proportion() -> None:
    row = logits(1)
    best = set(row[0].topk(3).indices.tolist())
    counts = draws(SamplingParams(1.0, top_k=3), row, 5000)
    assert set(counts) == best
    kept = row[0].softmax(0)[list(best)]
    for token, share in zip(best, (kept / kept.sum()).tolist(), strict=True):
        assert abs(counts[token] / 5000 - share) < 0.03


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    probability = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    assert set(draws(SamplingParams(1.0, top_p=0.5), probability.log(), 300)) == {0}
    assert set(draws(SamplingParams(1.0, top_p=0.6), probability.log(), 300)) == {0, 1}
    assert set(draws(SamplingParams(1.0, top_p=1e-9), probability.log(), 300)) == {0}


def test_top_p_counts_what_top_k_left() -> None:
    probability = torch.tensor([[0.4, 0.3, 0.2, 0.1]])  # of two: 4/7 and 3/7
    assert set(draws(SamplingParams(1.0, top_p=0.55, top_k=2), probability.log(), 300)) == {0}


def test_a_rows_sample_does_not_depend_on_its_neighbours() -> None:
    rules = [
        SamplingParams(0.7, seed=1),
        GREEDY,
        SamplingParams(1.3, top_p=0.8, seed=2),
        SamplingParams(1.0, top_k=4, seed=3),
        SamplingParams(0.9, seed=1),
    ]
    logits_BV, positions = logits(5), [0, 3, 7, 1, 9]
    together = sample(logits_BV, rules, positions).token_B.tolist()
    alone = [
        sample(logits_BV[b : b + 1], [rules[b]], [positions[b]]).token_B.item() for b in range(len(rules))
    ]
    assert together == alone


def test_uniform_draws_depend_on_seed_and_position_and_are_even() -> None:
    values = [uniform(seed, position) for seed in range(40) for position in range(50)]
    assert len(set(values)) == len(values)
    assert all(0 <= value < 1 for value in values)
    assert abs(sum(values) / len(values) - 0.5) < 0.03
    assert abs(sum(value < 0.1 for value in values) / len(values) - 0.1) < 0.03


def test_rows_that_are_not_finite_are_told() -> None:
    logits_BV = logits(3)
    logits_BV[1, 5] = math.nan
    assert sample(logits_BV, [GREEDY] * 3, [0] * 3).finite_B.tolist() == [True, False, True]


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"temperature": math.nan}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        SamplingParams(**wrong)  # type: ignore[arg-type]


def by_sorting(row: torch.Tensor, rule: SamplingParams, position: int) -> int:
    """The token of a rule as its definition says: sort all, keep what top-k and then top-p keep, invert."""
    probability = (row.double() / rule.temperature).softmax(0)
    probability, order = probability.sort(descending=True, stable=True)
    if rule.top_k:
        probability[rule.top_k :] = 0
    before = probability.cumsum(0) - probability
    probability[before >= rule.top_p * probability.sum()] = 0
    cumulative = probability.cumsum(0)
    target = uniform(rule.seed, position) * cumulative[-1]
    return int(order[(cumulative > target).nonzero()[0, 0]])


@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0])
def test_filtered_draws_are_those_of_the_sorted_distribution(spread: float) -> None:
    """Flat distributions, of which top-p keeps thousands of tokens, and steep ones; all rules in one batch."""
    vocab, rows = 3000, 60
    logits_BV = torch.randn(rows, vocab, generator=torch.Generator().manual_seed(1)) * spread
    rules = [
        SamplingParams(
            0.4 + row % 3, top_p=(0.1, 0.95, 1.0, 0.999)[row % 4], top_k=(0, 3, 700)[row % 3], seed=row
        )
        for row in range(rows)
    ]
    tokens = sample(logits_BV, rules, range(rows)).token_B.tolist()
    filtered = [row for row in range(rows) if rules[row].filters]
    assert len(filtered) == 55
    for row in filtered:
        assert tokens[row] == by_sorting(logits_BV[row], rules[row], row), rules[row]


def test_a_forced_token_is_taken_with_the_models_logprob() -> None:
    logits_BV = logits(3)
    rules = [GREEDY, SamplingParams(1.0, top_p=0.5, seed=4), SamplingParams(1.0, seed=4)]
    sampled = sample(logits_BV, rules, [0, 0, 0], [7, 9, None])
    assert sampled.token_B.tolist()[:2] == [7, 9]
    assert sampled.token_B[2] == sample(logits_BV, rules, [0, 0, 0]).token_B[2]
    expected = logits_BV.log_softmax(1).gather(1, sampled.token_B[:, None])[:, 0]
    torch.testing.assert_close(sampled.logprob_B, expected)
