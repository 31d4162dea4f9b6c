"""The chunked scan and the single step against the recurrence, in float64."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.initialization import inverse_softplus
from model.kernels.documents import Documents
from model.kernels.reference import reference_scan
from model.kernels.scan import chunked_scan, scan_step

CHUNK = 16
TOLERANCE = 1e-9
NAMES = ("x", "dt", "A_log", "B", "C", "D", "dt_bias")


def arguments(
    length: int,
    batch: int = 2,
    heads: int = 4,
    head_dim: int = 3,
    groups: int = 2,
    state: int = 5,
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> list[Tensor]:
    """Random arguments of a scan in the order of its signature, all requiring gradients."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    values = [
        normal(batch, length, heads, head_dim),
        normal(batch, length, heads),
        (torch.rand(heads, generator=generator, dtype=torch.float64) * 8 + 0.2).log(),
        normal(batch, length, groups, state),
        normal(batch, length, groups, state),
        normal(heads),
        normal(heads) - 2,
    ]
    return [value.to(dtype).requires_grad_() for value in values]


def documents_of(lengths: Sequence[int], batch: int) -> Documents | None:
    """The same packing in every row, except that the last row has its documents in reverse order."""
    ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    rows = torch.stack([ids] * (batch - 1) + [ids.flip(0)])
    return Documents.from_ids(rows, rows.shape)


def relative_error(value: Tensor, reference: Tensor) -> float:
    assert torch.isfinite(value).all()
    return ((value - reference).norm() / reference.norm().clamp(min=1e-30)).item()


def compare(
    values: list[Tensor], chunk: int, documents: Documents | None = None, initial: Tensor | None = None
) -> None:
    """Output, final state and every gradient within TOLERANCE of the recurrence's."""
    y, final = chunked_scan(*values, chunk, documents, initial)
    expected_y, expected_final = reference_scan(*values, documents, initial)
    assert relative_error(y, expected_y) < TOLERANCE
    assert relative_error(final, expected_final) < TOLERANCE
    generator = torch.Generator().manual_seed(9)
    upstream = [torch.randn(out.shape, generator=generator, dtype=out.dtype) for out in (y, final)]
    gradients = torch.autograd.grad((y, final), values, upstream)
    expected = torch.autograd.grad((expected_y, expected_final), values, upstream)
    for name, gradient, reference in zip(NAMES, gradients, expected, strict=True):
        assert relative_error(gradient, reference) < TOLERANCE, name


@pytest.mark.parametrize("length", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("with_initial_state", [False, True])
def test_equals_the_recurrence(length: int, with_initial_state: bool) -> None:
    initial = torch.randn(2, 4, 3, 5, dtype=torch.float64) if with_initial_state else None
    compare(arguments(length), CHUNK, initial=initial)


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (6, 1), (6, 2), (6, 3), (6, 6)])
def test_groups(heads: int, groups: int) -> None:
    compare(arguments(41, heads=heads, groups=groups), CHUNK)


@pytest.mark.parametrize("chunk", [1, 2, 8, 64, 128])
def test_chunk_size_does_not_matter(chunk: int) -> None:
    compare(arguments(41), chunk)


@given(
    lengths=st.lists(st.integers(1, 2 * CHUNK + 3), min_size=1, max_size=5),
    groups=st.sampled_from([1, 2]),
    with_initial_state=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=40)
def test_documents_anywhere(lengths: list[int], groups: int, with_initial_state: bool, seed: int) -> None:
    """Boundaries on, before and after the edges of chunks; several in one chunk; an initial state reaches only the
    first document."""
    values = arguments(sum(lengths), groups=groups, seed=seed)
    initial = torch.randn(2, 4, 3, 5, dtype=torch.float64) if with_initial_state else None
    compare(values, CHUNK, documents_of(lengths, batch=2), initial)


def test_strided_views_and_non_contiguous_gradients() -> None:
    """x, B and C come as slices of one convolution output."""
    packed = torch.randn(2, 37, 4 * 3 + 2 * 2 * 5, dtype=torch.float64, requires_grad=True)
    values = arguments(37)

    def run(scan: object) -> Tensor:
        x, B, C = packed.split((12, 10, 10), dim=-1)
        values[0], values[3], values[4] = (
            x.unflatten(-1, (4, 3)), B.unflatten(-1, (2, 5)), C.unflatten(-1, (2, 5))
        )  # fmt: skip
        y = chunked_scan(*values, CHUNK)[0] if scan is chunked_scan else reference_scan(*values)[0]
        (gradient,) = torch.autograd.grad(y.transpose(1, 2).pow(2).sum(), packed)
        return gradient

    assert relative_error(run(chunked_scan), run(reference_scan)) < TOLERANCE


@pytest.mark.parametrize("decay", [1.0, 16.0, 128.0])
@pytest.mark.parametrize("dt", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_decays_stay_finite_and_right(decay: float, dt: float, dtype: torch.dtype) -> None:
    """From states that hardly fade to states that vanish within a token: exponents down to -1280 a token."""
    values = [value.detach() for value in arguments(2 * CHUNK + 5)]
    values[1] = values[1] * 0.1
    values[2] = torch.full_like(values[2], decay).log()
    values[6] = inverse_softplus(torch.full_like(values[6], dt))
    documents = documents_of([CHUNK - 3, 1, CHUNK + 7], batch=2)
    for packing in (None, documents):
        narrow = [value.to(dtype).requires_grad_() for value in values]
        wide = [value.requires_grad_() for value in values]
        y, final = chunked_scan(*narrow, CHUNK, packing)
        expected_y, expected_final = reference_scan(*wide, packing)
        gradients = torch.autograd.grad(y.square().sum(), narrow)
        expected = torch.autograd.grad(expected_y.square().sum(), wide)
        tolerance = 2e-5 if dtype == torch.float32 else TOLERANCE
        assert relative_error(y, expected_y) < tolerance
        assert relative_error(final, expected_final) < tolerance
        for name, gradient, reference in zip(NAMES, gradients, expected, strict=True):
            error = relative_error(gradient, reference)
            assert error < tolerance, (name, error)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_steps_equal_the_recurrence(groups: int) -> None:
    values = [value.detach() for value in arguments(23, groups=groups)]
    x, dt, A_log, B, C, D, dt_bias = values
    initial = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    state = initial.clone()
    rows = [
        scan_step(x[:, t], dt[:, t], A_log, B[:, t], C[:, t], D, dt_bias, state) for t in range(x.shape[1])
    ]
    expected_y, expected_final = reference_scan(*values, initial_state_BHPN=initial)
    assert relative_error(torch.stack(rows, dim=1), expected_y) < TOLERANCE
    assert relative_error(state, expected_final) < TOLERANCE


def test_pieces_with_carried_state_equal_one_piece() -> None:
    values = [value.detach() for value in arguments(50)]
    x, dt, A_log, B, C, D, dt_bias = values
    whole, final = chunked_scan(*values, CHUNK)
    state, pieces = None, []
    for start, end in ((0, 7), (7, 8), (8, 40), (40, 50)):
        part = slice(start, end)
        y, state = chunked_scan(
            x[:, part], dt[:, part], A_log, B[:, part], C[:, part], D, dt_bias, CHUNK, None, state
        )
        pieces.append(y)
    assert relative_error(torch.cat(pieces, dim=1), whole) < TOLERANCE
    assert state is not None
    assert relative_error(state, final) < TOLERANCE


def test_initial_state_is_not_written_to() -> None:
    initial = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    before = initial.clone()
    chunked_scan(*arguments(40), CHUNK, None, initial)
    assert torch.equal(initial, before)


def test_bfloat16_inputs_are_scanned_in_float32() -> None:
    """The scan adds no rounding of its own beyond that of its inputs and output."""
    rounded = [value.detach() for value in arguments(3 * CHUNK + 5, dtype=torch.bfloat16)]
    y, final = chunked_scan(*rounded, CHUNK)
    expected_y, expected_final = reference_scan(*(value.double() for value in rounded))
    assert y.dtype == torch.bfloat16
    assert final.dtype == torch.float32
    assert relative_error(y.double(), expected_y) < 2**-8
    assert relative_error(final.double(), expected_final) < 1e-5


def test_gradients_come_in_the_dtype_of_their_inputs() -> None:
    values = arguments(20, dtype=torch.bfloat16)
    values[2:3] = [values[2].detach().float().requires_grad_()]
    chunked_scan(*values, CHUNK)[0].sum().backward()
    assert [value.grad.dtype for value in values] == [value.dtype for value in values]  # type: ignore[union-attr]


def test_rows_of_a_batch_are_independent() -> None:
    values = [value.detach() for value in arguments(37, batch=3)]
    y, _ = chunked_scan(*values, CHUNK)
    single = [value[1:2] if index in (0, 1, 3, 4) else value for index, value in enumerate(values)]
    assert torch.equal(chunked_scan(*single, CHUNK)[0], y[1:2])
