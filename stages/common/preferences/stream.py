"""The pairs of each step, and held-out pairs, as batches."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import torch

from model.errors import UsageError
from stages.common.data.blending import BlendedOrder
from stages.common.preferences.batches import PairBatch
from stages.common.preferences.encoding import EncodedPair
from stages.common.preferences.settings import PairSettings
from stages.common.preferences.store import PairSet
from stages.common.sizes import LARGEST
from stages.common.training.steps import StepShape


class PairSteps:
    """Steps over pairs of one or more sources, `batch_pairs` pairs each (all of them where there are fewer), in an order
    that is a function of the seed. A source of weight w is read w times an epoch.

    sizes: how many of `pairs.pairs` are of each source, in their order.
    """

    def __init__(
        self,
        pairs: PairSet,
        sizes: Mapping[str, int],
        weights: Mapping[str, float],
        *,
        steps: int,
        settings: PairSettings,
        seed: int,
        pad_id: int,
    ) -> None:
        self._pairs, self._settings, self._pad_id = pairs, settings, pad_id
        self._first = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
        self._size = min(settings.batch_pairs, len(pairs.pairs))
        blend = {name: size * weights[name] for name, size in sizes.items()}
        self._order = BlendedOrder(sizes, [blend], steps * self._size, seed, ())

    def batch(self, step: int) -> PairBatch:
        """The pairs of step `step`, counted from 0."""
        return batch_of(self._pairs, self._members(step), self._settings.seq_len, self._pad_id)

    def describe(self, step: int) -> str:
        """The step and the places of its first pairs."""
        places = [self._pairs.pairs[index].place for index in self._members(step)]
        return f"step {step + 1}, pairs {', '.join(places[:8])}" + (", ..." if len(places) > 8 else "")

    def _members(self, step: int) -> list[int]:
        drawn = (self._order[step * self._size + offset] for offset in range(self._size))
        return [self._first[source] + row for source, row in drawn]


def batch_of(pairs: PairSet, members: Sequence[int], seq_len: int, pad_id: int) -> PairBatch:
    """Some of the pairs as a batch."""
    reference = None if pairs.reference_P2 is None else pairs.reference_P2[torch.tensor(members)]
    return PairBatch.of([pairs.pairs[index] for index in members], reference, seq_len=seq_len, pad_id=pad_id)


def held_out_batches(
    pairs: PairSet, tokens: int, *, rows: int, settings: PairSettings, pad_id: int
) -> list[PairBatch]:
    """Held-out pairs, `rows` rows at a time: all of them, or about `tokens` tokens evenly spread where it is not 0."""
    if not pairs.pairs:
        return []
    total = sum(pair.length for pair in pairs.pairs)
    wanted = len(pairs.pairs)
    if tokens:
        wanted = max(1, min(wanted, round(wanted * tokens / total)))
    picked = np.linspace(0, len(pairs.pairs) - 1, wanted).round().astype(int).tolist()
    whole = batch_of(pairs, picked, settings.seq_len, pad_id)
    return [whole.rows(start, start + rows) for start in range(0, len(whole.input_ids_BT), rows)]


def epoch_steps(weighted_pairs: float, epochs: float, batch_pairs: int, pairs: int) -> int:
    """The steps that read `epochs` epochs, at least one. UsageError for more pairs than can be counted."""
    drawn = weighted_pairs * epochs
    if drawn > LARGEST:
        raise UsageError(
            f"{epochs:g} epochs of {weighted_pairs:g} pairs are more than can be counted",
            where="epochs",
            remedy="give fewer epochs, or a smaller weight to the data",
        )
    return max(1, math.ceil(drawn / min(batch_pairs, pairs) - 1e-9))


def step_shape(
    steps: int, pairs: Sequence[EncodedPair], settings: PairSettings, micro_batch: int
) -> StepShape:
    """Steps with the rows that they are likely to have."""
    mean = sum(pair.length for pair in pairs) / len(pairs)
    rows = math.ceil(min(settings.batch_pairs, len(pairs)) * mean / settings.seq_len)
    return StepShape(steps=steps, sequences=max(1, rows), micro_batch=micro_batch, seq_len=settings.seq_len)
