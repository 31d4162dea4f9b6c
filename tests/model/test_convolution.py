"""The causal convolution against its definition, torch's conv1d and autograd."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.kernels.convolution import causal_conv, causal_conv_step
from model.kernels.documents import Documents
from model.kernels.reference import reference_conv

CHANNELS = 6


def arguments(
    length: int, width: int, *, bias: bool = True, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor | None]:
    x = torch.randn(2, length, CHANNELS, dtype=dtype, requires_grad=True)
    weight = torch.randn(CHANNELS, width, dtype=dtype, requires_grad=True)
    return x, weight, torch.randn(CHANNELS, dtype=dtype, requires_grad=True) if bias else None


def packing(lengths: list[int]) -> Documents | None:
    ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    rows = torch.stack([ids, ids.flip(0)])
    return Documents.from_ids(rows, rows.shape)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_torch_conv1d(width: int, length: int, bias: bool) -> None:
    x, weight, b = arguments(length, width, bias=bias)
    padded = F.pad(x.transpose(1, 2), (width - 1, 0))
    expected = F.silu(F.conv1d(padded, weight[:, None], b, groups=CHANNELS)).transpose(1, 2)
    y = causal_conv(x, weight, b)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    inputs = [value for value in (x, weight, b) if value is not None]
    upstream = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad(y, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
        rtol=1e-9,
        atol=1e-11,
    )


@pytest.mark.parametrize("width", [2, 3, 4])
def test_gradcheck(width: int) -> None:
    x, weight, bias = arguments(9, width)
    documents = packing([2, 1, 6])
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: causal_conv(x, weight, bias, documents), (x, weight, bias)
    )


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), width=st.sampled_from([2, 3, 4]))
@settings(max_examples=30)
def test_documents_anywhere(lengths: list[int], width: int) -> None:
    """Documents shorter than the window too: a tap two back must not see over a document of one token."""
    x, weight, bias = arguments(sum(lengths), width)
    documents = packing(lengths)
    y, expected = causal_conv(x, weight, bias, documents), reference_conv(x, weight, bias, documents)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    inputs = (x, weight, bias)
    upstream = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad(y, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
        rtol=1e-9,
        atol=1e-11,
    )


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("pieces", [[1] * 13, [5, 1, 7], [1, 12], [2, 2, 9], [13]])
@pytest.mark.parametrize("bias", [False, True])
def test_steps_equal_one_piece(width: int, pieces: list[int], bias: bool) -> None:
    """Pieces shorter than the window included: the state must keep inputs of more than one piece."""
    x, weight, b = arguments(sum(pieces), width, bias=bias)
    state = torch.zeros(2, width - 1, CHANNELS, dtype=x.dtype)
    with torch.no_grad():
        rows = [causal_conv_step(part, weight, b, state) for part in x.split(pieces, dim=1)]
        torch.testing.assert_close(torch.cat(rows, dim=1), causal_conv(x, weight, b), rtol=1e-12, atol=1e-12)
    assert torch.equal(state, x.detach()[:, -(width - 1) :])


def test_bfloat16_is_close_to_the_same_numbers_in_float32() -> None:
    x, weight, bias = (
        value.detach() for value in arguments(33, 4, dtype=torch.bfloat16) if value is not None
    )
    y = causal_conv(x, weight, bias)
    expected = reference_conv(x.float(), weight.float(), bias.float())
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).norm() / expected.norm() < 2**-7


def test_slices_of_a_wider_projection() -> None:
    """The input is a strided slice of in_proj's output."""
    wide = torch.randn(2, 11, CHANNELS + 5, dtype=torch.float64, requires_grad=True)
    _, weight, bias = arguments(11, 4)
    y = causal_conv(wide[..., 3 : 3 + CHANNELS], weight, bias)
    expected = reference_conv(wide[..., 3 : 3 + CHANNELS], weight, bias)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    (ours,) = torch.autograd.grad(y.square().sum(), wide)
    (reference,) = torch.autograd.grad(expected.square().sum(), wide)
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-11)
