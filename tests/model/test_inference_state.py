"""The inference state: however a sequence is cut into pieces and batched with others, the logits are those of one pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.hybrid import HybridLM
from model.inference.state import InferenceState, KeyValueCache
from tests.model.miniatures import MINIATURES, miniature, random_ids, randomized


@pytest.fixture(scope="module")
def lm() -> HybridLM:
    return randomized(miniature("M*M-*"))


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.no_grad():
        yield


def read_in_pieces(lm: HybridLM, ids: Tensor, pieces: list[int]) -> Tensor:
    state = lm.new_state(ids.shape[0])
    return torch.cat([lm(part, state=state).logits for part in ids.split(pieces, dim=1)], dim=1)


@pytest.mark.parametrize("name", MINIATURES)
def test_pieces_and_steps_equal_one_pass(name: str) -> None:
    lm = randomized(MINIATURES[name])
    ids = random_ids(lm.config, 2, 45)
    expected = lm(ids).logits
    for pieces in ([45], [20, 25], [1, 2, 16, 17, 1, 8], [40, *[1] * 5]):
        torch.testing.assert_close(read_in_pieces(lm, ids, pieces), expected, rtol=0, atol=1e-4)


def test_exactly_in_float64(lm: HybridLM) -> None:
    wide = randomized(lm.config, dtype=torch.float64)
    ids = random_ids(lm.config, 2, 40)
    torch.testing.assert_close(
        read_in_pieces(wide, ids, [17, 5, 1, 17]), wide(ids).logits, rtol=0, atol=1e-10
    )
    assert wide(ids).logits.dtype == torch.float64


@given(pieces=st.lists(st.integers(1, 20), min_size=1, max_size=6))
@settings(max_examples=15)
def test_any_cut(lm: HybridLM, pieces: list[int]) -> None:
    ids = random_ids(lm.config, 1, sum(pieces))
    torch.testing.assert_close(read_in_pieces(lm, ids, pieces), lm(ids).logits, rtol=0, atol=1e-4)


def test_one_token_from_nothing(lm: HybridLM) -> None:
    ids = random_ids(lm.config, 1, 1)
    torch.testing.assert_close(lm(ids, state=lm.new_state()).logits, lm(ids).logits, rtol=0, atol=1e-5)


def test_rows_of_different_length_decode_together(lm: HybridLM) -> None:
    """Prompts read one by one, joined, then decoded as a batch: each row as if alone, in any order, some leaving."""
    prompts = [random_ids(lm.config, 1, length, seed=length) for length in (3, 30, 17)]
    following = random_ids(lm.config, 3, 6, seed=99)
    states = []
    for prompt in prompts:
        state = lm.new_state()
        lm(prompt, state=state)
        states.append(state)
    joined = InferenceState.join(states)
    assert joined.lengths == [3, 30, 17]
    first = lm(following[:, :2], state=joined).logits
    kept = joined.select([2, 0])
    second = torch.stack([lm(following[[2, 0], t : t + 1], state=kept).logits[:, 0] for t in range(2, 6)], 1)
    for row, prompt in enumerate(prompts):
        whole = lm(torch.cat([prompt, following[row : row + 1]], dim=1)).logits[0, prompt.shape[1] :]
        torch.testing.assert_close(first[row], whole[:2], rtol=0, atol=1e-4)
        if row != 1:
            torch.testing.assert_close(second[[2, 0].index(row)], whole[2:], rtol=0, atol=1e-4)


def test_garbage_behind_a_short_row_is_not_seen(lm: HybridLM) -> None:
    """The cache of a short row is longer than the row; what lies there must not matter, NaN aside."""
    states = []
    for length in (2, 20):
        state = lm.new_state()
        lm(random_ids(lm.config, 1, length, seed=length), state=state)
        states.append(state)
    clean, dirty = InferenceState.join(states), InferenceState.join(states)
    for block in dirty.blocks:
        if isinstance(block, KeyValueCache):
            block.key_BSkh[0, 2:] = 1e6
            block.value_BSkh[0, 2:] = 1e6
    token = random_ids(lm.config, 2, 1)
    assert torch.equal(lm(token, state=clean).logits, lm(token, state=dirty).logits)


def test_select_copies(lm: HybridLM) -> None:
    state = lm.new_state()
    lm(random_ids(lm.config, 1, 9), state=state)
    fork = state.select([0])
    token = random_ids(lm.config, 1, 1)
    expected = lm(token, state=state.select([0])).logits
    lm(random_ids(lm.config, 1, 5, seed=7), state=fork)
    assert state.lengths == [9]
    assert fork.lengths == [14]
    assert torch.equal(lm(token, state=state).logits, expected)


def test_one_row_many_times(lm: HybridLM) -> None:
    """Several samples of one prompt."""
    state = lm.new_state()
    lm(random_ids(lm.config, 1, 9), state=state)
    many = state.select([0, 0, 0])
    tokens = random_ids(lm.config, 3, 1)
    together = lm(tokens, state=many).logits
    for row in range(3):
        alone = lm(tokens[row : row + 1], state=state.select([0])).logits
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)


def test_the_cache_grows_past_its_first_allocation(lm: HybridLM) -> None:
    ids = random_ids(lm.config, 1, 600)
    torch.testing.assert_close(read_in_pieces(lm, ids, [250, 20, 300, 30]), lm(ids).logits, rtol=0, atol=1e-4)


def test_the_ssm_state_is_float32_in_bfloat16() -> None:
    lm = randomized(miniature("M*"), dtype=torch.bfloat16)
    state = lm.new_state()
    ids = random_ids(lm.config, 1, 20)
    pieces = torch.cat([lm(part, state=state).logits for part in ids.split([10, 9, 1], dim=1)], dim=1)
    assert state.blocks[0].ssm_BHPN.dtype == torch.float32
    assert state.blocks[0].conv_BJC.dtype == torch.bfloat16
    assert pieces.dtype == torch.float32
    assert (pieces - lm(ids).logits).norm() / pieces.norm() < 3e-2
