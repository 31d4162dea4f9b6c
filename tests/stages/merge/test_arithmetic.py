"""The weighted sum against exact arithmetic, and slerp against its geometry."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.merge.arithmetic import inner_product, slerp_weights, weighted_sum

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def random(seed: int, dtype: torch.dtype = torch.float32, count: int = 300) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.001, 1000), min_size=2, max_size=6),
    st.sampled_from(DTYPES),
    st.integers(0, 2**32 - 1),
)
def test_equal_pieces_stay_bit_for_bit_at_any_weights_that_sum_to_one(
    raw: list[float], dtype: torch.dtype, seed: int
) -> None:
    weights = [weight / math.fsum(raw) for weight in raw]
    tiny = torch.finfo(dtype).smallest_normal / 4  # subnormal
    special = torch.tensor([-0.0, 0.0, tiny, -tiny, torch.finfo(dtype).max, -1.0], dtype=dtype)
    piece = torch.cat([random(seed, dtype), special])
    assert bits(weighted_sum([piece] * len(weights), weights).to(dtype)) == bits(piece)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5), (1.0, -0.5), (2.0, 3.0)])
def test_it_is_exact_arithmetic_rounded_once(dtype: torch.dtype, weights: tuple[float, ...]) -> None:
    pieces = [random(seed, dtype) for seed in range(len(weights))]
    merged = weighted_sum(pieces, weights)
    for index in range(len(merged)):
        exact = sum(
            (
                Fraction(weight) * Fraction(float(piece[index]))
                for weight, piece in zip(weights, pieces, strict=True)
            ),
            Fraction(),
        )
        assert abs(Fraction(float(merged[index])) - exact) <= Fraction(1, 2**49)
        nearest = torch.tensor(float(exact), dtype=torch.float64).to(dtype)
        assert bits(merged[index].to(dtype).reshape(1)) == bits(nearest.reshape(1))


def test_the_ends_are_the_models() -> None:
    one, other = random(0), random(1)
    assert torch.equal(weighted_sum([one, other], (1.0, 0.0)).float(), one)
    assert torch.equal(weighted_sum([one, other], (0.0, 1.0)).float(), other)


def slerp(one: torch.Tensor, other: torch.Tensor, alpha: float) -> torch.Tensor:
    weights = slerp_weights(
        inner_product(one, other), inner_product(one, one), inner_product(other, other), alpha
    )
    return weighted_sum([one, other], weights)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_slerp_goes_evenly_along_the_arc(alpha: float) -> None:
    one, other = (tensor.double() / tensor.double().norm() for tensor in (random(0), random(1)))
    angle = math.acos(float(one @ other))
    merged = slerp(one, other, alpha)
    assert float(merged.norm()) == pytest.approx(1, abs=1e-12)
    assert math.acos(min(1.0, float(merged @ one))) == pytest.approx(alpha * angle, abs=1e-7)
    assert math.acos(min(1.0, float(merged @ other))) == pytest.approx((1 - alpha) * angle, abs=1e-7)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (random(0), random(0)),
        (random(0), 3 * random(0)),
        (random(0), -random(0)),
        (random(0), torch.zeros(300)),
        (torch.zeros(300), torch.zeros(300)),
    ],
    ids=["equal", "parallel", "opposite", "zero", "both zero"],
)
def test_where_there_is_no_arc_slerp_takes_the_chord(one: torch.Tensor, other: torch.Tensor) -> None:
    expected = 0.7 * one.double() + 0.3 * other.double()
    torch.testing.assert_close(slerp(one, other, 0.3), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_slerp_of_a_tensor_with_itself_is_it_bit_for_bit(dtype: torch.dtype) -> None:
    piece = torch.cat([random(3, dtype), torch.tensor([-0.0], dtype=dtype)])
    for alpha in (0.0, 0.3, 0.5, 1.0):
        assert bits(slerp(piece, piece, alpha).to(dtype)) == bits(piece)
