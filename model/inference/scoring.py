"""Log-probabilities of given continuations, as multiple-choice and perplexity tasks ask for them.

Two ways to read the tokens, both exact and chosen for each context by what they save:

- Continuations of one context that is long enough are read from copies of its state: the context is read once.
- Everything else is packed into rows of documents that do not see each other, so that short texts need no padding.

Inputs that differ in the last token only (the letters of a multiple-choice answer) are read once in both. Logits are
made for the scored positions alone, a chunk at a time: never for a whole batch.

Shapes: B rows, T tokens, D hidden size, V vocabulary, n scored positions, p scored tokens (several can share a position).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.inference.diagnosis import not_finite_error
from model.inference.reading import Tokens, passes, read
from model.inference.state import InferenceState

PACKED_ROW = 512
"""Short texts are packed into rows of about this many tokens: the quadratic attention of a longer row costs more than
the work for each row that it saves (docs/eval.md)."""

SHARED_ROWS = 16
"""At most this many continuations are read from copied states at a time: a copy of a large model's state is large."""

SHARED_CONTEXT = 32
"""Shortest context that is read once for all its continuations: reading from states is slower a token than packed, and
pays from about 32 tokens of context on, for two continuations as for four (docs/eval.md)."""

LOGIT_BYTES = 8 * 2**20
"""Float32 logits of one chunk are kept to about this size."""


@dataclass(frozen=True)
class Score:
    """Sum of the log-probabilities of a continuation's tokens in nats, and whether each was the most probable one."""

    logprob: float
    greedy: bool


class _Reading:
    """One input to the network, and the continuations that are scored with it; these differ in the last token only."""

    def __init__(self, context: Tokens, prefix: Tokens) -> None:
        self.context = context
        self.prefix = prefix  # a continuation less its last token
        self.members: list[tuple[int, int]] = []  # which continuation, its last token

    def __len__(self) -> int:
        return len(self.context) + len(self.prefix)


_Group = list[_Reading]
"""Readings of one context."""


@torch.inference_mode()
def score_continuations(
    lm: HybridLM,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_tokens: int,
    on_scored: Callable[[int], None] = lambda _count: None,
) -> list[Score]:
    """Scores each (context, continuation), neither of them empty, in the order given.

    A batch holds about `batch_tokens` tokens, or one row if that is longer. `on_scored` is told, batch by batch, how
    many pairs are done. Raises ArtifactError, naming the layer, if logits are not finite.
    """
    scorer = _Scorer(lm, pairs, batch_tokens, on_scored)
    groups = _group(pairs)
    scorer.shared([group for group in groups if _sharing_pays(group)])
    scorer.packed([reading for group in groups if not _sharing_pays(group) for reading in group])
    return scorer.scores()


def _group(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[_Group]:
    by_context: dict[Tokens, dict[Tokens, _Reading]] = {}
    for index, (context, continuation) in enumerate(pairs):
        context, (*prefix, last) = tuple(context), continuation
        readings = by_context.setdefault(context, {})
        readings.setdefault(tuple(prefix), _Reading(context, tuple(prefix))).members.append((index, last))
    return [list(readings.values()) for readings in by_context.values()]


def _sharing_pays(group: _Group) -> bool:
    return len(group) > 1 and len(group[0].context) >= SHARED_CONTEXT


class _Scorer:
    """Reads batches and keeps the scores of each continuation's tokens."""

    def __init__(
        self,
        lm: HybridLM,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        batch_tokens: int,
        on_scored: Callable[[int], None],
    ) -> None:
        self._lm = lm
        self._batch_tokens = batch_tokens
        self._on_scored = on_scored
        self._logprob = [0.0] * len(pairs)
        self._greedy = [True] * len(pairs)

    def scores(self) -> list[Score]:
        return [Score(*both) for both in zip(self._logprob, self._greedy, strict=True)]

    def packed(self, readings: Sequence[_Reading]) -> None:
        """Read whole inputs, packed into rows of documents; the longest first."""
        longest_first = sorted(readings, key=lambda reading: (-len(reading), reading.context, reading.prefix))
        for rows in _batches(_rows(longest_first), self._batch_tokens):
            width = max(sum(map(len, row)) for row in rows)
            ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
            documents_BT = torch.full((len(rows), width), -1)
            targets = _Targets()
            for b, row in enumerate(rows):
                start = 0
                for number, reading in enumerate(row):
                    end = start + len(reading)
                    ids_BT[b, start:end] = torch.tensor(reading.context + reading.prefix)
                    documents_BT[b, start:end] = number
                    first = b * width + start + len(reading.context) - 1
                    targets.add(reading, [first + offset for offset in range(len(reading.prefix) + 1)])
                    start = end
            # One text a row needs no document ids: what is behind it cannot be seen from it.
            packed = any(len(row) > 1 for row in rows)
            hidden_BTD = self._lm.hidden_states(
                ids_BT.to(self._lm.device), documents_BT.to(self._lm.device) if packed else None
            )
            self._keep(hidden_BTD.flatten(0, 1), targets)

    def shared(self, groups: Sequence[_Group]) -> None:
        """Read each context once, then its continuations from copies of the state; the longest contexts first."""
        longest_first = sorted(groups, key=lambda group: (-len(group[0].context), group[0].context))
        for batch in _shared_batches(longest_first):
            context_hidden_nD, state = self._read_contexts(batch)
            readings = [reading for group in batch for reading in group if reading.prefix]
            width = max(len(reading.prefix) for reading in readings)
            ids_BT = torch.zeros(len(readings), width, dtype=torch.long)
            for b, reading in enumerate(readings):
                ids_BT[b, : len(reading.prefix)] = torch.tensor(reading.prefix)
            hidden_BTD = self._lm.hidden_states(ids_BT.to(self._lm.device), state=state)
            targets, row = _Targets(), 0
            for number, group in enumerate(batch):
                for reading in group:
                    first = len(batch) + row * width
                    targets.add(reading, [number, *range(first, first + len(reading.prefix))])
                    row += bool(reading.prefix)
            self._keep(torch.cat([context_hidden_nD, hidden_BTD.flatten(0, 1)]), targets)

    def _read_contexts(self, batch: Sequence[_Group]) -> tuple[Tensor, InferenceState]:
        """Last hidden state [groups, D] of each context, and a row of state for each continuation to be read.

        Contexts of about the same length, which are neighbours, are read together.
        """
        last, states = [], []
        contexts = [group[0].context for group in batch]
        groups = iter(batch)
        for together in passes(contexts, self._batch_tokens):
            reading = read(self._lm, together, chunk=self._batch_tokens)
            last.append(reading.last_PD)
            copies = [len([one for one in next(groups) if one.prefix]) for _ in together]
            states.append(reading.state.select([p for p, count in enumerate(copies) for _ in range(count)]))
        return torch.cat(last), InferenceState.join(states)

    def _keep(self, hidden_nD: Tensor, targets: "_Targets") -> None:
        device = self._lm.device
        used, position_p = torch.unique(torch.tensor(targets.positions), return_inverse=True)
        logprob_p, greedy_p = self._score(
            hidden_nD[used.to(device)], position_p.to(device), torch.tensor(targets.tokens, device=device)
        )
        if not bool(logprob_p.isfinite().all()):
            reading = targets.readings[int(logprob_p.isfinite().logical_not().nonzero()[0])]
            raise not_finite_error(self._lm, reading.context + reading.prefix)
        for index, logprob, greedy in zip(targets.owners, logprob_p.tolist(), greedy_p.tolist(), strict=True):
            self._logprob[index] += logprob
            self._greedy[index] &= greedy
        self._on_scored(len(set(targets.owners)))

    def _score(self, hidden_nD: Tensor, position_p: Tensor, token_p: Tensor) -> tuple[Tensor, Tensor]:
        """For each scored token its log-probability, and whether it is the most probable one."""
        rows = max(1, LOGIT_BYTES // (4 * self._lm.config.vocab_size))
        logprob_p = torch.empty(len(token_p), dtype=torch.promote_types(hidden_nD.dtype, torch.float32))
        greedy_p = torch.empty(len(token_p), dtype=torch.bool)
        for start in range(0, len(hidden_nD), rows):
            logits_nV = self._lm.logits(hidden_nD[start : start + rows])
            here = ((position_p >= start) & (position_p < start + rows)).nonzero()[:, 0]
            position, token = position_p[here] - start, token_p[here]
            greedy = logits_nV[position, token] == logits_nV.amax(1)[position]
            # argmax is slow, and only needed to decide between tokens that share the highest logit.
            greedy[greedy.clone()] = logits_nV[position[greedy]].argmax(1) == token[greedy]
            logprob_p[here.cpu()] = logits_nV.log_softmax(1)[position, token].cpu()
            greedy_p[here.cpu()] = greedy.cpu()
        return logprob_p, greedy_p


class _Targets:
    """What to look up in a batch: token `tokens[i]` at flat position `positions[i]` for continuation `owners[i]`."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.tokens: list[int] = []
        self.owners: list[int] = []
        self.readings: list[_Reading] = []

    def add(self, reading: _Reading, positions: Sequence[int]) -> None:
        for index, last in reading.members:
            self.positions += positions
            self.tokens += (*reading.prefix, last)
            self.owners += [index] * len(positions)
            self.readings += [reading] * len(positions)


def _rows(longest_first: Sequence[_Reading]) -> Iterator[list[_Reading]]:
    """Readings that share a row: as many as fit into PACKED_ROW, or into the length of the first."""
    row: list[_Reading] = []
    for reading in longest_first:
        if row and sum(map(len, row)) + len(reading) > max(PACKED_ROW, len(row[0])):
            yield row
            row = []
        row.append(reading)
    if row:
        yield row


def _batches(rows: Iterator[list[_Reading]], batch_tokens: int) -> Iterator[list[list[_Reading]]]:
    batch: list[list[_Reading]] = []
    width = 0
    for row in rows:
        widened = max(width, sum(map(len, row)))
        if batch and widened * (len(batch) + 1) > batch_tokens:
            yield batch
            batch, widened = [], sum(map(len, row))
        batch.append(row)
        width = widened
    if batch:
        yield batch


def _shared_batches(groups: Sequence[_Group]) -> Iterator[list[_Group]]:
    batch: list[_Group] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > SHARED_ROWS:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
