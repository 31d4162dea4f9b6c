"""Steps of dpo over files of pairs: encoded once, with the reference's log-probabilities, and kept in OUT.run."""

from collections.abc import Mapping
from typing import Any

from model.hybrid import HybridLM
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.preferences.batches import PairBatch
from stages.common.preferences.encoding import EncodedPair, encode_answers
from stages.common.preferences.reading import read_sources
from stages.common.preferences.reference import reference_logprobs
from stages.common.preferences.store import PairSet, load_pairs, save_pairs
from stages.common.preferences.stream import PairSteps, epoch_steps, held_out_batches, step_shape
from stages.common.stage import StageContext
from stages.common.training.steps import StepShape
from stages.dpo.config import DpoConfig
from stages.dpo.objective import DpoObjective

_TRAINED, _HELD_OUT = "pairs", "held-out"


class FilePairs:
    """The pairs of `config.data`: a stream of their steps, and a validator on those that were held out."""

    def __init__(
        self, lm: HybridLM, tokenizer: ChatTokenizer, config: DpoConfig, context: StageContext
    ) -> None:
        self._config, self._pad_id = config, tokenizer.text.pad_id
        trained = load_pairs(context.run_dir / _TRAINED)
        held_out = load_pairs(context.run_dir / _HELD_OUT)
        if trained is None or held_out is None:
            trained, held_out = self._read(lm, tokenizer, context)
        self.trained, self._held_out = trained, held_out
        sizes: Mapping[str, int] = trained.about["sizes"]
        weights: Mapping[str, float] = trained.about["weights"]
        drawn = sum(size * weights[name] for name, size in sizes.items())
        steps = epoch_steps(drawn, config.epochs, config.batch_pairs, len(trained.pairs))
        self.shape: StepShape = step_shape(steps, trained.pairs, config, config.micro_batch)
        self._steps = PairSteps(
            trained,
            sizes,
            weights,
            steps=steps,
            settings=config,
            seed=config.seed,
            pad_id=self._pad_id,
        )

    @property
    def metrics(self) -> dict[str, float | int | str]:
        """What became of the pairs."""
        about = self.trained.about
        return {name: about[name] for name in ("pairs_read", "pairs_left_out", "pairs_held_out")} | {
            "pairs": len(self.trained.pairs)
        }

    @property
    def rows(self) -> list[dict[str, object]]:
        """No table: a file of pairs has no rounds."""
        return []

    def batch(self, step: int) -> PairBatch:
        return self._steps.batch(step)

    def figures(self, step: int) -> dict[str, float]:  # noqa: ARG002
        return {}

    def describe(self, step: int, start: int, end: int) -> str:  # noqa: ARG002
        return self._steps.describe(step)

    def validate(self, lm: HybridLM, tokens: int) -> dict[str, float]:
        """Loss, accuracy and margin on held-out pairs."""
        batches = held_out_batches(
            self._held_out, tokens, rows=self._config.micro_batch, settings=self._config, pad_id=self._pad_id
        )
        return DpoObjective.of(self._config).measure(lm, batches)

    def _read(self, lm: HybridLM, tokenizer: ChatTokenizer, context: StageContext) -> tuple[PairSet, PairSet]:
        def check() -> None:
            context.check_stop("pairs are encoded anew")

        def with_reference(pairs: list[EncodedPair], about: dict[str, Any]) -> PairSet:
            reference = reference_logprobs(
                lm,
                pairs,
                self._config,
                pad_id=self._pad_id,
                micro_batch=self._config.micro_batch,
                reporter=context.reporter,
                check=check,
            )
            return PairSet(pairs, reference, about)

        read = read_sources(
            self._config.data,
            tokenizer,
            encode_answers,
            self._config,
            context.reporter,
            reasoning=True,
            check=check,
        )
        trained = with_reference([pair for pairs in read.sources.values() for pair in pairs], read.about())
        held_out = with_reference(read.held_out, {})
        save_pairs(context.run_dir / _HELD_OUT, held_out)
        save_pairs(context.run_dir / _TRAINED, trained)
        return trained, held_out
