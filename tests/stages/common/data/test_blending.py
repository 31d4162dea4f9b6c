from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UsageError
from stages.common.data.blending import BLOCK_SEQUENCES, BlendedOrder

EQUAL = {"a": 1.0}
weights_strategy = st.lists(st.floats(1e-4, 10), min_size=1, max_size=6).map(
    lambda values: {f"s{index}": value for index, value in enumerate(values)}
)


def _one_phase(rows: dict[str, int], weights: dict[str, float], total: int, seed: int = 0) -> BlendedOrder:
    return BlendedOrder(rows, [weights], total, seed, boundaries=())


@settings(max_examples=25, deadline=None)
@given(weights_strategy, st.integers(0, 2**32))
def test_blocks_give_every_source_its_exact_share(weights: dict[str, float], seed: int) -> None:
    order = _one_phase(dict.fromkeys(weights, 5000), weights, 3 * BLOCK_SEQUENCES, seed)
    counts: Counter[str] = Counter()
    smallest_share = min(weights.values()) / sum(weights.values())
    for index in range(len(order)):
        counts[order[index][0]] += 1
        done = index + 1
        if done % BLOCK_SEQUENCES == 0 and smallest_share * BLOCK_SEQUENCES >= 1:
            for name, weight in weights.items():
                assert abs(counts[name] - done * weight / sum(weights.values())) <= 1
    assert order.phase_rows() == [{name: counts[name] for name in weights}]


def test_sources_too_rare_for_every_block_still_get_their_share() -> None:
    weights = {"common": 1.0, **{f"rare{index}": 0.0001 * (index + 1) for index in range(5)}}
    order = _one_phase(dict.fromkeys(weights, 50), weights, 60 * BLOCK_SEQUENCES)
    counts = Counter(order[index][0] for index in range(len(order)))
    for name, weight in weights.items():
        assert counts[name] == pytest.approx(len(order) * weight / sum(weights.values()), abs=4)
    assert min(counts.values()) >= 5


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=5), st.integers(0, 1000))
def test_inside_a_block_the_blend_stays_even(values: list[float], seed: int) -> None:
    weights = {f"s{index}": value for index, value in enumerate(values)}
    order = _one_phase(dict.fromkeys(weights, 5000), weights, BLOCK_SEQUENCES, seed)
    counts: Counter[str] = Counter()
    for index in range(BLOCK_SEQUENCES):
        counts[order[index][0]] += 1
        for name, weight in weights.items():
            assert abs(counts[name] - (index + 1) * weight / sum(values)) < 1 + len(values)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 99))
def test_every_row_comes_once_an_epoch(rows_a: int, rows_b: int, seed: int) -> None:
    rows = {"a": rows_a, "b": rows_b}
    order = BlendedOrder(rows, [{"a": 1, "b": 3}, {"a": 2, "b": 1}, {"b": 1}], 2000, seed)
    drawn: dict[str, list[int]] = {"a": [], "b": []}
    for name, row in (order[index] for index in range(2000)):
        drawn[name].append(row)
    for name, sequence in drawn.items():
        epochs = [sequence[at : at + rows[name]] for at in range(0, len(sequence), rows[name])]
        for epoch in epochs:
            assert len(set(epoch)) == len(epoch)
            assert set(epoch) <= set(range(rows[name]))
        assert order.epochs()[name] == pytest.approx(len(sequence) / rows[name])
    if rows_b > 20:
        first, second = drawn["b"][:rows_b], drawn["b"][rows_b : 2 * rows_b]
        assert first != second
        assert first != sorted(first)


def test_order_is_a_function_of_the_index_alone() -> None:
    arguments = ({"a": 50, "b": 70}, [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"b": 1}], 5000, 3)
    forward = BlendedOrder(*arguments)
    sequence = [forward[index] for index in range(5000)]
    fresh = BlendedOrder(*arguments)
    for index in (4999, 0, 3000, 2999, 4500, 1023, 1024):
        assert fresh[index] == sequence[index]
        assert BlendedOrder(*arguments)[index] == sequence[index]


def test_the_stream_is_pinned() -> None:
    """A resumed or replayed run on another release of numpy or Python must meet the same rows."""
    order = BlendedOrder({"a": 10, "b": 7}, [{"a": 2, "b": 1}, {"a": 1, "b": 1}, {"b": 1}], 40, seed=11)
    sample = "".join("{}{}".format(*order[index]) for index in (0, 1, 2, 23, 24, 35, 36, 39))
    assert sample == "a0b3a7a4a5a7b4b0"


def test_phases_switch_at_60_and_90_percent() -> None:
    order = BlendedOrder({"a": 5, "b": 5, "c": 5}, [{"a": 1}, {"b": 1}, {"c": 1}], 1000, 0)
    names = "".join(order[index][0] for index in range(1000))
    assert names == "a" * 600 + "b" * 300 + "c" * 100
    assert [order.phase_of(index) for index in (0, 599, 600, 899, 900, 999)] == [0, 0, 1, 1, 2, 2]


def test_seed_changes_the_order_but_not_the_shares() -> None:
    rows, weights = {"a": 900, "b": 900}, {"a": 1.0, "b": 2.0}
    first, second = (_one_phase(rows, weights, 900, seed) for seed in (0, 1))
    assert [first[index] for index in range(900)] != [second[index] for index in range(900)]
    assert first.phase_rows() == second.phase_rows()


@pytest.mark.parametrize("total", [1, 2, 3, 9])
def test_runs_shorter_than_their_phases(total: int) -> None:
    order = BlendedOrder({"a": 3}, [EQUAL, EQUAL, EQUAL], total, 0)
    assert len({order[index] for index in range(min(total, 3))}) == min(total, 3)
    with pytest.raises(IndexError):
        order[total]


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"a": 1}, {"a": 1}, {"x": 1}], "phase 3: there is no source 'x'"),
        ([{"a": 1}, {"a": 0}, {"a": 1}], "phase 2: weight 0"),
        ([{"a": -1}, {"a": 1}, {"a": 1}], "phase 1: weight -1"),
        ([{"a": float("inf")}, {"a": 1}, {"a": 1}], "phase 1: weight inf"),
        ([{"a": 1}, {}, {"a": 1}], "phase 2: names no source"),
        ([{"a": 1}, {"a": 1, "empty": 1e-7}, {"a": 1}], "phase 2: source 'empty' has less than a millionth"),
        ([{"a": 1}, {"empty": 1}, {"a": 1}], "source 'empty' has no rows"),
        ([{"a": 1}], "1 phases need 0"),
    ],
)
def test_impossible_blends_are_refused(phases: list[dict[str, float]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BlendedOrder({"a": 4, "empty": 0}, phases, 100, 0)
