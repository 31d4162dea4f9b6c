"""Rows of state that are taken and given back, against states that are built anew."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.hybrid import HybridLM
from model.inference.slots import StateSlots
from model.inference.state import InferenceState, KeyValueCache
from tests.model.miniatures import miniature, random_ids, randomized


@pytest.fixture(scope="module", params=["M*M-*", "MM", "*-"])
def lm(request: pytest.FixtureRequest) -> HybridLM:
    return randomized(miniature(request.param))


def read(lm: HybridLM, ids: list[int]) -> InferenceState:
    state = lm.new_state()
    lm(torch.tensor([ids]), state=state)
    return state


def addresses(slots: StateSlots) -> list[int]:
    return [
        block.key_BSkh.data_ptr() if isinstance(block, KeyValueCache) else block.ssm_BHPN.data_ptr()
        for block in slots.rows(0).blocks
        if block is not None
    ]


@given(steps=st.lists(st.integers(-6, 40), min_size=1, max_size=14))
@settings(max_examples=12, deadline=None)
@torch.no_grad()
def test_any_coming_and_going(lm: HybridLM, steps: list[int]) -> None:
    """A number above 0: a row of so many tokens joins; below: one leaves; after each all rows are decoded by a token."""
    slots = StateSlots(lm.new_state, most=8)
    rows: list[list[int]] = []
    for number, step in enumerate(steps):
        if step > 0 and len(rows) < 8:
            ids = random_ids(lm.config, step, seed=number).tolist()
            slots.take(read(lm, ids))
            rows.append(ids)
        elif step < 0 and rows:
            place = -step % len(rows)
            slots.give_back(place)
            rows[place] = rows[-1]
            rows.pop()
        assert len(slots) == len(rows)
        if rows:
            tokens = random_ids(lm.config, len(rows), 1, seed=100 + number)
            logits = lm(tokens, state=slots.rows(1)).logits[:, 0]
            rows = [[*row, int(token)] for row, token in zip(rows, tokens[:, 0], strict=True)]
            for row, mine in zip(rows, logits, strict=True):
                torch.testing.assert_close(mine, lm(torch.tensor([row])).logits[0, -1], rtol=0, atol=1e-4)


@torch.no_grad()
def test_nothing_moves_while_there_is_room(lm: HybridLM) -> None:
    slots = StateSlots(lm.new_state, most=8)
    states = [read(lm, random_ids(lm.config, length, seed=length).tolist()) for length in (5, 9, 3, 7, 4)]
    for state in states:
        slots.take(state)
    before = addresses(slots)
    slots.give_back(1)
    slots.take(states[0], copies=3)
    slots.give_back(6)
    assert addresses(slots) == before
    assert slots.rows(0).lengths == [5, 4, 3, 7, 5, 5]


@torch.no_grad()
def test_the_room_doubles_and_is_let_go(lm: HybridLM) -> None:
    slots = StateSlots(lm.new_state, most=6)
    state = read(lm, [1, 2, 3])
    room = []
    for _ in range(6):
        slots.take(state)
        room.append(len(slots._room.lengths))
    assert room == [1, 2, 4, 4, 6, 6]
    for _ in range(6):
        slots.give_back(0)
    assert len(slots) == len(slots._room.lengths) == 0
    slots.take(state)
    assert slots.rows(1).lengths == [3]


@torch.no_grad()
def test_a_copy_goes_its_own_way(lm: HybridLM) -> None:
    state = read(lm, [1, 2, 3])
    slots = StateSlots(lm.new_state, most=3)
    slots.take(state, copies=2)
    lm(torch.tensor([[4], [5]]), state=slots.rows(1))
    assert state.lengths == [3]
    logits = lm(torch.tensor([[6], [6]]), state=slots.rows(1)).logits[:, 0]
    for row, token in enumerate((4, 5)):
        whole = lm(torch.tensor([[1, 2, 3, token, 6]])).logits[0, -1]
        torch.testing.assert_close(logits[row], whole, rtol=0, atol=1e-4)
