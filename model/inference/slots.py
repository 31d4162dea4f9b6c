"""Rows of state that requests take and give back: who joins or leaves a batch costs the others no copy of their state.

    slots = StateSlots(lm.new_state, most=32)
    slots.take(state_behind_a_prompt)
    lm.hidden_states(token_ids_B1, state=slots.rows(1))  # of the B rows in use, updated in place
    slots.give_back(0)

The rows in use are always the first ones, so the network works on views; the place of a row that leaves is taken by the
last. The room, in rows and in cached tokens a row, doubles when it is used up and is let go when the last row leaves.
"""

from collections.abc import Callable

from model.inference.state import GROWTH, InferenceState


class StateSlots:
    """The state of up to `most` rows. `new_state` makes an empty state of so many rows (`HybridLM.new_state`)."""

    def __init__(self, new_state: Callable[[int], InferenceState], most: int) -> None:
        self._new_state = new_state
        self._most = most
        self._rows: InferenceState
        self._let_go()

    def __len__(self) -> int:
        """How many rows are in use."""
        return len(self._rows.lengths)

    def rows(self, new: int) -> InferenceState:
        """The rows in use, with room for `new` more tokens in each. What the network writes into it stays here."""
        self._make_room(len(self), max(self._rows.lengths) + new)
        return self._rows

    def take(self, state: InferenceState, row: int = 0, copies: int = 1) -> None:
        """Put a row of `state` behind the rows in use, `copies` times."""
        used, length = len(self), state.lengths[row]
        self._make_room(used + copies, length)
        for place in range(used, used + copies):
            self._room.copy_row(place, state, row)
        self._rows = self._room.first_rows([*self._rows.lengths, *[length] * copies])

    def give_back(self, row: int) -> None:
        """Free a row. The last row in use, unless it is that one, takes its place and its number."""
        last = len(self) - 1
        if last == 0:
            self._let_go()
            return
        lengths = list(self._rows.lengths)
        if row != last:
            self._room.copy_row(row, self._rows, last)
            lengths[row] = lengths[last]
        self._rows = self._room.first_rows(lengths[:last])

    def _let_go(self) -> None:
        self._room = self._new_state(0)
        self._rows = self._room.first_rows([])
        self._tokens = 0

    def _make_room(self, rows: int, tokens: int) -> None:
        room = len(self._room.lengths)
        if rows <= room and tokens <= self._tokens:
            return
        if tokens > self._tokens:
            self._tokens = max(tokens, 2 * self._tokens, GROWTH)
        if rows > room:
            self._room = self._new_state(max(rows, min(2 * room, self._most)))
            self._room.reserve(self._tokens)
            for row in range(len(self)):
                self._room.copy_row(row, self._rows, row)
        else:
            self._room.reserve(self._tokens)
        self._rows = self._room.first_rows(self._rows.lengths)
