"""What pair files are likely to hold, from the first pairs of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from model.errors import ArtifactError
from model.text_lines import json_lines
from stages.common.config import WeightedPath
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.sources import Source, resolve_sources
from stages.common.plan import PlanValue
from stages.common.preferences.encoding import PairEncoder
from stages.common.preferences.lines import parse_pair
from stages.common.preferences.settings import PairSettings
from stages.common.preferences.stream import epoch_steps
from stages.common.training.steps import StepShape

MEASURED = 200
"""Pairs of a source that are encoded; the rest is taken to be like them."""


@dataclass(frozen=True)
class PairEstimate:
    """pairs: of all files; drawn: in an epoch, by weight; tokens: of all pairs; section: rows of a plan."""

    pairs: int
    drawn: float
    tokens: int
    section: dict[str, PlanValue]

    def steps(self, settings: PairSettings, epochs: float, micro_batch: int) -> StepShape:
        """The steps of so many epochs, each of the rows that its pairs fill."""
        pairs = max(1, round(self.pairs * (1 - settings.validation_fraction)))
        steps = epoch_steps(
            self.drawn * (1 - settings.validation_fraction), epochs, settings.batch_pairs, pairs
        )
        tokens = min(settings.batch_pairs, pairs) * self.tokens / self.pairs
        rows = max(1, round(tokens / settings.seq_len))
        return StepShape(steps=steps, sequences=rows, micro_batch=micro_batch, seq_len=settings.seq_len)


def largest_step(settings: PairSettings, micro_batch: int) -> StepShape:
    """One step, every pair of which fills a row."""
    return StepShape(
        steps=1, sequences=settings.batch_pairs, micro_batch=micro_batch, seq_len=settings.seq_len
    )


def estimate_pairs(
    data: Sequence[WeightedPath], tokenizer: ChatTokenizer, encoder: PairEncoder, settings: PairSettings
) -> PairEstimate:
    """ArtifactError for a broken line among the first of a file, or a source without pairs that fit."""
    section: dict[str, PlanValue] = {}
    pairs, drawn, tokens = 0, 0.0, 0
    for source in resolve_sources((item.path, item.weight) for item in data):
        count, mean = _measure(source, tokenizer, encoder, settings.seq_len)
        pairs += count
        drawn += count * source.weight
        tokens += round(count * mean)
        section |= {
            f"{source.name} (pairs)": count,
            f"{source.name} (tokens, estimated)": round(count * mean),
        }
    return PairEstimate(pairs, drawn, tokens, section)


def _measure(
    source: Source, tokenizer: ChatTokenizer, encoder: PairEncoder, seq_len: int
) -> tuple[int, float]:
    """Pairs of a source, and their mean number of tokens."""
    lines = (line for file in source.files for line in json_lines(file))
    lengths = [encoder(tokenizer, parse_pair(row, place)).length for row, place in islice(lines, MEASURED)]
    fitting = [length for length in lengths if length <= seq_len]
    if not fitting:
        what = f"has no pair that fits into {seq_len} tokens" if lengths else "has no pairs"
        raise ArtifactError(what, where=str(source.files[0]), remedy="give it some, or a larger --seq-len")
    rest = sum(1 for _ in lines)
    return len(fitting) + round(rest * len(fitting) / len(lengths)), sum(fitting) / len(fitting)
