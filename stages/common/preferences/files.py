"""Pair files as a stream of steps: read and encoded once, and kept in OUT.run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from stages.common.config import WeightedPath
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.preferences.batches import PairBatch
from stages.common.preferences.encoding import EncodedPair, PairEncoder
from stages.common.preferences.reading import read_sources
from stages.common.preferences.settings import PairSettings
from stages.common.preferences.store import PairSet, load_pairs, save_pairs
from stages.common.preferences.stream import PairSteps, epoch_steps, held_out_batches, step_shape
from stages.common.stage import StageContext
from stages.common.training.steps import StepShape

_TRAINED, _HELD_OUT = "pairs", "held-out"

Reference = Callable[[Sequence[EncodedPair]], Tensor]
"""The reference's log-probabilities [P, 2] of pairs."""


class FilePairs:
    """The pairs of `data`, `epochs` times, as the stream of a training loop; some are held out.

    Args:
        encoder: how a pair becomes tokens; reasoning: whether sides that differ in it alone differ.
        seed: of the order.
        reference: what is to be known of each pair before training starts; None: nothing.
    """

    def __init__(
        self,
        data: Sequence[WeightedPath],
        tokenizer: ChatTokenizer,
        encoder: PairEncoder,
        settings: PairSettings,
        context: StageContext,
        *,
        epochs: float,
        seed: int,
        micro_batch: int,
        reasoning: bool,
        reference: Reference | None = None,
    ) -> None:
        self._settings, self._micro_batch, self._pad_id = settings, micro_batch, tokenizer.text.pad_id
        trained = load_pairs(context.run_dir / _TRAINED)
        held_out = load_pairs(context.run_dir / _HELD_OUT)
        if trained is None or held_out is None:
            read = read_sources(
                data,
                tokenizer,
                encoder,
                settings,
                context.reporter,
                reasoning=reasoning,
                check=lambda: context.check_stop("pairs are encoded anew"),
            )
            every = [pair for pairs in read.sources.values() for pair in pairs]
            held_out = _kept(context.run_dir / _HELD_OUT, read.held_out, reference, {})
            trained = _kept(context.run_dir / _TRAINED, every, reference, read.about())
        self._trained, self._held_out = trained, held_out
        sizes: Mapping[str, int] = trained.about["sizes"]
        weights: Mapping[str, float] = trained.about["weights"]
        drawn = sum(size * weights[name] for name, size in sizes.items())
        steps = epoch_steps(drawn, epochs, settings.batch_pairs, len(trained.pairs))
        self.shape: StepShape = step_shape(steps, trained.pairs, settings, micro_batch)
        self._steps = PairSteps(
            trained, sizes, weights, steps=steps, settings=settings, seed=seed, pad_id=self._pad_id
        )

    @property
    def metrics(self) -> dict[str, float | int | str]:
        """What became of the pairs."""
        about = self._trained.about
        told = {name: about[name] for name in ("pairs_read", "pairs_left_out", "pairs_held_out")}
        return told | {"pairs": len(self._trained.pairs)}

    def batch(self, step: int) -> PairBatch:
        return self._steps.batch(step)

    def figures(self, step: int) -> dict[str, float]:  # noqa: ARG002
        return {}

    def describe(self, step: int, start: int, end: int) -> str:  # noqa: ARG002
        return self._steps.describe(step)

    def held_out_batches(self, tokens: int) -> list[PairBatch]:
        """Held-out pairs: all, or about `tokens` tokens where it is not 0."""
        return held_out_batches(
            self._held_out, tokens, rows=self._micro_batch, settings=self._settings, pad_id=self._pad_id
        )


def _kept(
    directory: Path, pairs: list[EncodedPair], reference: Reference | None, about: dict[str, object]
) -> PairSet:
    made = PairSet(pairs, None if reference is None else reference(pairs), about)
    save_pairs(directory, made)
    return made
