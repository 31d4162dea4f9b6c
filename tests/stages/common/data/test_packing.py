import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common.data.packing import PADDING_DOCUMENT, Packer, Row, best_fit_decreasing

PAD = 0
lengths_strategy = st.lists(st.integers(1, 90), min_size=0, max_size=60)


def _documents(lengths: list[int]) -> list[np.ndarray]:
    """Documents whose tokens are all distinct, so that each token tells where it came from."""
    starts = np.cumsum([1, *lengths])
    return [
        np.arange(start, start + length, dtype=np.int32)
        for start, length in zip(starts, lengths, strict=False)
    ]


def _pack(lengths: list[int], seq_len: int, window_tokens: int) -> tuple[Packer, list[Row]]:
    packer = Packer(seq_len, PAD, window_tokens=window_tokens)
    rows = [row for document in _documents(lengths) for row in packer.add(document)]
    return packer, rows + list(packer.flush())


@settings(max_examples=300, deadline=None)
@given(lengths_strategy, st.integers(1, 40), st.integers(1, 300))
def test_packing_loses_doubles_and_reorders_nothing(lengths: list[int], seq_len: int, window: int) -> None:
    packer, rows = _pack(lengths, seq_len, window)
    pieces = []
    for row in rows:
        assert row.input_ids.shape == row.document_ids.shape == (seq_len,)
        assert row.input_ids.dtype == row.document_ids.dtype == np.int32
        used = row.document_ids != PADDING_DOCUMENT
        assert used.any()
        assert (row.input_ids[~used] == PAD).all()
        count = int(row.document_ids.max()) + 1
        expected = np.sort(row.document_ids[used])
        assert (row.document_ids[used] == expected).all()
        assert not used[len(expected) :].any()
        pieces += [row.input_ids[row.document_ids == number] for number in range(count)]
    # A piece is a run of consecutive tokens of one document, cut only at multiples of seq_len from its start.
    by_start = {int(piece[0]): piece for piece in pieces}
    assert len(by_start) == len(pieces)
    for document in _documents(lengths):
        rebuilt = [by_start.pop(int(document[at])) for at in range(0, len(document), seq_len)]
        assert (np.concatenate(rebuilt) == document).all()
    assert not by_start
    assert packer.tokens == sum(lengths)
    assert packer.rows == len(rows)
    assert packer.documents == len(lengths)
    assert packer.cut_documents == sum(length > seq_len for length in lengths)


@given(st.lists(st.integers(1, 50), max_size=80), st.integers(50, 70))
def test_bins_hold_every_piece_once_within_capacity(lengths: list[int], capacity: int) -> None:
    bins = best_fit_decreasing(lengths, capacity)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    for members in bins:
        assert sum(lengths[index] for index in members) <= capacity
        assert members == sorted(members)


def test_best_fit_takes_the_tightest_bin() -> None:
    # After 7 and 5 the piece of 3 fits both (room 3 and 5); only the tight choice leaves room for the other 5.
    assert best_fit_decreasing([7, 5, 3, 5], 10) == [[0, 2], [1, 3]]


def test_ordinary_lengths_are_padded_by_less_than_half_a_percent() -> None:
    lengths = np.random.Generator(np.random.Philox(1)).lognormal(5.5, 1.0, 5000).astype(int) + 2
    packer = Packer(512, PAD)
    rows = sum(1 for length in lengths for _ in packer.add(np.ones(length, np.int32))) + sum(
        1 for _ in packer.flush()
    )
    assert rows == packer.rows
    assert packer.fill > 0.995


def test_window_bounds_what_waits() -> None:
    packer = Packer(16, PAD, window_tokens=1)
    rows = [row for _ in range(1000) for row in packer.add(np.ones(15, np.int32))]
    assert len(rows) >= 900  # the window holds 64 rows at least, and no more here
