"""The order in which training meets the rows of several sources: a function of one integer.

Sequence `index` of a run (0 to `total_sequences` - 1) is row `row` of source `source`, computed from the index alone.
So a run resumes from its counter of sequences, and ranks of any world size agree on the stream.

- A run has one phase a blend, switching at `boundaries` of its sequences (60% and 90% in Nemotron Nano 2, arXiv
  2508.14444 section 2.3).
- Within a phase, sequences come in blocks. Cumulative rounding gives each source its exact share: after any number of
  whole blocks each source is less than one row away from weight x sequences. Inside a block the rows of a source are
  spread evenly with random jitter, so that batches are alike in their blend and still in random order.
- A source is read in epochs, each a fresh permutation that visits every row exactly once. A phase goes on where the
  one before left each source.

Randomness is raw output of numpy's counter-based Philox, keyed by a hash of the seed and the place it is for. Raw bits
are stable between numpy releases; `Generator` methods are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from model.errors import UsageError

PHASE_BOUNDARIES = (0.6, 0.9)
BLOCK_SEQUENCES = 1024
LEAST_SHARE = 1e-6
"""Of a source in its phase. A block has at least one row of each source on average, and is held in memory."""


def _random_bits(count: int, *key: object) -> NDArray[np.uint64]:
    """`count` uint64 that depend on `key` alone."""
    digest = hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(count)


class _Phase:
    """One blend over `length` sequences: which source each comes from, and how many times that came before."""

    def __init__(self, weights: Mapping[str, float], length: int, key: tuple[object, ...]) -> None:
        self.length = length
        self.sources = list(weights)
        total = sum(Fraction(weight) for weight in weights.values())
        shares = [Fraction(weight) / total for weight in weights.values()]
        self._cumulative_shares = [sum(shares[: end + 1], Fraction(0)) for end in range(len(shares))]
        # A block gives each source at least one row on average; then cumulative rounding never takes one back.
        self.block = BLOCK_SEQUENCES
        while self.block * min(shares) < 1:
            self.block *= 2
        self._key = key
        self._block_order = lru_cache(maxsize=4)(self._compute_block_order)

    def _counts_before(self, block: int) -> NDArray[np.int64]:
        """Rows of each source in the first `block` blocks, [sources]."""
        ends = [int(share * (self.block * block) + Fraction(1, 2)) for share in self._cumulative_shares]
        return np.array(ends, dtype=np.int64) - np.array([0, *ends[:-1]], dtype=np.int64)

    def _compute_block_order(self, block: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Source of each sequence of a block and that source's count of rows before it in the phase."""
        before = self._counts_before(block)
        counts = self._counts_before(block + 1) - before
        source = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        rank = np.concatenate([np.arange(count) for count in counts])
        jitter = _random_bits(self.block, *self._key, "block", block) / 2.0**64
        order = np.argsort((rank + jitter) / counts[source], kind="stable")
        return source[order], (before[source] + rank)[order]

    def draw(self, index: int) -> tuple[int, int]:
        """(source index, draws of this source earlier in this phase) of the phase's sequence `index`."""
        block, offset = divmod(index, self.block)
        source, count = self._block_order(block)
        return int(source[offset]), int(count[offset])

    @cached_property
    def totals(self) -> dict[str, int]:
        """Rows that the phase draws of each source."""
        block, offset = divmod(self.length, self.block)
        counts = self._counts_before(block)
        if offset:
            counts = counts + np.bincount(self._block_order(block)[0][:offset], minlength=len(self.sources))
        return {name: int(count) for name, count in zip(self.sources, counts, strict=True)}


class BlendedOrder:
    """Row and source of every sequence of a run.

    Args:
        rows: number of rows of each source.
        phases: a blend a phase, {source: weight}; weights are relative.
        total_sequences: length of the whole run.
        seed: of the run's data order.
        boundaries: fractions of the run at which the next phase begins, one fewer than there are phases.

    Raises:
        UsageError: a blend that names an unknown or empty source, or has a weight that is not positive.
    """

    def __init__(
        self,
        rows: Mapping[str, int],
        phases: Sequence[Mapping[str, float]],
        total_sequences: int,
        seed: int,
        boundaries: Sequence[float] = PHASE_BOUNDARIES,
    ) -> None:
        if len(boundaries) != len(phases) - 1 or list(boundaries) != sorted(boundaries):
            raise UsageError(
                f"{len(phases)} phases need {len(phases) - 1} ascending boundaries, got {list(boundaries)}",
                remedy="give one boundary fewer than phases",
            )
        check_phases(phases, rows)
        self.rows = dict(rows)
        self.total_sequences = total_sequences
        self.seed = seed
        self.starts = [0, *(round(total_sequences * Fraction(str(boundary))) for boundary in boundaries)]
        ends = [*self.starts[1:], total_sequences]
        self._phases = [
            _Phase(weights, end - start, (seed, "phase", number))
            for number, (weights, start, end) in enumerate(zip(phases, self.starts, ends, strict=True))
        ]
        self._drawn_before: list[dict[str, int]] = [dict.fromkeys(rows, 0)]
        for phase in self._phases:
            drawn = self._drawn_before[-1]
            self._drawn_before.append({name: drawn[name] + phase.totals.get(name, 0) for name in rows})
        self._permutation = lru_cache(maxsize=2 * len(rows))(self._compute_permutation)

    def __len__(self) -> int:
        return self.total_sequences

    def __getitem__(self, index: int) -> tuple[str, int]:
        """(source, row) of the run's sequence `index`. IndexError outside 0 to `total_sequences` - 1."""
        if not 0 <= index < self.total_sequences:
            raise IndexError(f"sequence {index} of a run of {self.total_sequences}")
        number = self.phase_of(index)
        phase = self._phases[number]
        source_index, drawn = phase.draw(index - self.starts[number])
        name = phase.sources[source_index]
        epoch, position = divmod(self._drawn_before[number][name] + drawn, self.rows[name])
        return name, int(self._permutation(name, epoch)[position])

    def phase_of(self, index: int) -> int:
        """Number of the phase, from 0, that the sequence `index` lies in."""
        return max(number for number, start in enumerate(self.starts) if start <= index)

    def epochs(self) -> dict[str, float]:
        """How many times the whole run reads each source; 0 for one that no phase names."""
        return {
            name: drawn / self.rows[name] for name, drawn in self._drawn_before[-1].items() if self.rows[name]
        }

    def phase_rows(self) -> list[dict[str, int]]:
        """Rows that each phase draws of each source."""
        return [dict(phase.totals) for phase in self._phases]

    def _compute_permutation(self, source: str, epoch: int) -> NDArray[np.int64]:
        return np.argsort(_random_bits(self.rows[source], self.seed, "epoch", source, epoch), kind="stable")


def check_phases(phases: Sequence[Mapping[str, float]], rows: Mapping[str, int]) -> None:
    """Refuses blends that cannot be drawn from sources of these sizes, or only in enormous blocks (`UsageError`)."""
    for number, weights in enumerate(phases, start=1):
        where = f"phase {number}"
        if not weights:
            raise UsageError(
                "names no source", where=where, remedy=f"give weights to some of: {', '.join(rows)}"
            )
        for name, weight in weights.items():
            if name not in rows:
                raise UsageError(
                    f"there is no source {name!r}",
                    where=where,
                    remedy=f"name sources among: {', '.join(rows)}",
                )
            if not 0 < weight < float("inf"):
                raise UsageError(
                    f"weight {weight:g} of source {name!r} is not a positive number",
                    where=where,
                    remedy="give a weight above 0, or leave the source out of the phase",
                )
            if weight < LEAST_SHARE * max(weights.values()):
                raise UsageError(
                    f"source {name!r} has less than a millionth of the weight of another",
                    where=where,
                    remedy="leave it out of the phase, or give it more",
                )
            if rows[name] == 0:
                raise UsageError(
                    f"source {name!r} has no rows",
                    where=where,
                    remedy="leave it out of the phase, or add text to it",
                )
