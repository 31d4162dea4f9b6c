"""The quantizer against one that looks each number up in a table of E4M3, in float64."""

import math

import pytest
import torch
from torch import Tensor

from model.precision.emulation import Emulation, Fp8, quantize

BITS = torch.arange(0x7F)
NUMBERS = BITS.to(torch.uint8).view(torch.float8_e4m3fn).double()
"""What E4M3 has from zero to 448, in order; bits and numbers rise together."""

BLOCKS = [(1, 128), (128, 1), (128, 128)]


def nearest(values: Tensor) -> Tensor:
    """The nearest of E4M3 to each number, at most 448; of two as near, the one with an even mantissa."""
    sizes = values.abs().clamp(max=448.0)
    above = torch.searchsorted(NUMBERS, sizes).clamp(max=len(NUMBERS) - 1)
    below = (above - 1).clamp(min=0)
    to_above, to_below = NUMBERS[above] - sizes, sizes - NUMBERS[below]
    lower = (to_below < to_above) | ((to_below == to_above) & (BITS[below] % 2 == 0))
    found = torch.where(lower, NUMBERS[below], NUMBERS[above]).copysign(values)
    return torch.where(values.isnan(), math.nan, found)


def scale_of(amax: float, power_of_two: bool) -> float:
    if amax == 0 or math.isinf(amax):
        return 1.0
    scale = min(448.0 / amax, torch.finfo(torch.float32).max)
    scale = float(torch.tensor(scale, dtype=torch.float64).float())
    return 2.0 ** (math.frexp(scale)[1] - 1) if power_of_two else scale


def expected(x: Tensor, block: tuple[int, int], power_of_two: bool) -> Tensor:
    """What quantizing leaves of x, block after block."""
    result = torch.empty(x.shape, dtype=torch.float32)
    rows, columns = x.shape
    for top in range(0, rows, block[0]):
        for left in range(0, columns, block[1]):
            area = (slice(top, top + block[0]), slice(left, left + block[1]))
            values = x[area].double()
            scale = scale_of(float(values.abs().nan_to_num(nan=0.0, posinf=math.inf).max()), power_of_two)
            scaled = (x[area].float() * torch.tensor(scale, dtype=torch.float32)).double()
            inverse = torch.tensor(scale, dtype=torch.float32).reciprocal()
            result[area] = nearest(scaled).float() * inverse
    return result


def ties(shape: tuple[int, int]) -> Tensor:
    """Numbers of which many lie halfway between two of E4M3, once scaled."""
    return torch.randint(-896, 897, shape).float() * 0.5


@pytest.mark.parametrize("power_of_two", [True, False])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shape", [(128, 256), (130, 200), (1, 1), (3, 129)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_are_those_nearest_in_e4m3(
    shape: tuple[int, int], block: tuple[int, int], power_of_two: bool, dtype: torch.dtype
) -> None:
    spread = torch.randn(shape) * torch.logspace(-3, 3, shape[1])
    for x in (spread.to(dtype), ties(shape).to(dtype)):
        assert torch.equal(
            quantize(x, block, power_of_two=power_of_two).wide(), expected(x, block, power_of_two)
        )


def test_a_tie_goes_to_the_even_mantissa() -> None:
    values = torch.tensor([[448.0, 17.0, 19.0, -17.0, 2.0**-10, 3 * 2.0**-10]])
    rounded = quantize(values, (1, 128), power_of_two=True).wide()
    assert torch.equal(rounded, nearest(values.double()).float())
    assert rounded.tolist() == [[448.0, 16.0, 20.0, -16.0, 0.0, 2.0**-8]]


def quantized(*values: float, dtype: torch.dtype = torch.float32, power_of_two: bool = True) -> Fp8:
    return quantize(torch.tensor([values], dtype=dtype), (1, 128), power_of_two=power_of_two)


def test_a_block_of_zeros_has_the_scale_one() -> None:
    assert quantized(0.0, -0.0).inverse_scales.tolist() == [[1.0]]
    assert quantized(0.0, -0.0).wide().tolist() == [[0.0, -0.0]]


def test_an_infinity_becomes_the_largest_number_at_the_scale_one() -> None:
    assert quantized(math.inf, -math.inf, 3.0, 1e-4).wide().tolist() == [[448.0, -448.0, 3.0, 0.0]]


def test_a_nan_stays_one_and_the_others_keep_their_scale() -> None:
    wide = quantized(math.nan, 100.0, -7.0).wide()
    assert math.isnan(wide[0, 0])
    assert wide[0, 1:].tolist() == quantized(100.0, -7.0).wide()[0].tolist()


@pytest.mark.parametrize("power_of_two", [True, False])
@pytest.mark.parametrize("smallest", [1e-36, 1e-38, 1e-42])
def test_numbers_too_small_for_a_scale_of_float32_keep_what_they_can(
    smallest: float, power_of_two: bool
) -> None:
    found = quantized(smallest, -smallest / 2, power_of_two=power_of_two)
    assert found.inverse_scales.isfinite().all()
    assert found.wide()[0, 0] == pytest.approx(smallest, rel=1 / 16, abs=2.0**-127 * 2**-9)


def test_the_scale_is_a_power_of_two_that_brings_the_largest_below_448() -> None:
    for amax in (1.0, 448.0, 449.0, 3e38, 1e-30):
        found = quantized(amax)
        assert math.frexp(1 / float(found.inverse_scales))[0] == 0.5
        assert 224 <= float(found.values.float()) <= 448


def test_a_weight_has_one_scale_a_square_and_inputs_have_tiles_along_each_product() -> None:
    x = torch.randn(256, 384)
    blocks, whole = Emulation("blocks"), Emulation("tensor")
    assert blocks.quantize_weight(x).by_row.inverse_scales.shape == (2, 3)
    assert blocks.quantize_input(x).by_row.inverse_scales.shape == (256, 3)
    assert blocks.quantize_gradient(x).by_column.inverse_scales.shape == (2, 384)
    assert whole.quantize_input(x).by_column.inverse_scales.shape == (1, 1)
    assert float(whole.quantize_input(x).by_row.inverse_scales) == pytest.approx(float(x.abs().max()) / 448)
