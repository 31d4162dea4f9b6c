"""Pair files to encoded pairs: read, leave out what teaches nothing (and count it), hold out, encode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.errors import ArtifactError
from model.seeds import chance
from stages.common.config import WeightedPath
from stages.common.data.chat.steps import Places
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.sources import Source, resolve_sources
from stages.common.preferences.encoding import EncodedPair, PairEncoder
from stages.common.preferences.lines import PairSample, likeness, read_pairs
from stages.common.preferences.settings import PairSettings
from stages.common.reporter import Reporter


@dataclass
class LeftOut:
    """Pairs that were left out, by reason."""

    seq_len: int
    identical: Places = field(default_factory=Places)
    white_space: Places = field(default_factory=Places)
    too_long: Places = field(default_factory=Places)
    longest: int = 0

    def sentences(self) -> list[str]:
        """One for each reason that there was."""
        told = {
            "have identical sides and were left out": self.identical,
            "have sides that differ in white space alone and were left out": self.white_space,
            f"do not fit into a row of {self.seq_len} tokens and were left out (the longest has {self.longest})": (
                self.too_long
            ),
        }
        return [f"{places.count} pairs {what}: {places}" for what, places in told.items() if places.count]


@dataclass(frozen=True)
class ReadPairs:
    """The pairs of each source, those held out of any, and how many were read and left out."""

    sources: dict[str, list[EncodedPair]]
    weights: dict[str, float]
    held_out: list[EncodedPair]
    read: int
    left_out: LeftOut

    def about(self) -> dict[str, Any]:
        """For the pairs that are kept in OUT.run, and for the stage's metrics."""
        kept = sum(map(len, self.sources.values())) + len(self.held_out)
        return {
            "sizes": {name: len(pairs) for name, pairs in self.sources.items()},
            "weights": self.weights,
            "pairs_read": self.read,
            "pairs_left_out": self.read - kept,
            "pairs_held_out": len(self.held_out),
        }


def read_sources(
    data: Sequence[WeightedPath],
    tokenizer: ChatTokenizer,
    encoder: PairEncoder,
    settings: PairSettings,
    reporter: Reporter,
    *,
    reasoning: bool,
    check: Callable[[], None] = lambda: None,
) -> ReadPairs:
    """All pairs of the files, encoded. What was left out is said.

    Args:
        reasoning: sides that differ in their reasoning alone are different.
        check: called at each pair; what it raises ends the work.

    Raises:
        ArtifactError: a broken line or template, or a source of which nothing is left, named.
    """
    sources = resolve_sources([(item.path, item.weight) for item in data])
    result = ReadPairs(
        {source.name: [] for source in sources},
        {source.name: source.weight for source in sources},
        [],
        0,
        LeftOut(settings.seq_len),
    )
    read = 0
    with reporter.progress("encoding pairs", total=None, unit="pair") as bar:
        for source in sources:
            before = read
            for pair in (pair for file in source.files for pair in read_pairs(file)):
                check()
                bar.update(1)
                if not read:
                    check_template(tokenizer)
                read += 1
                encoded = _encoded(pair, tokenizer, encoder, result.left_out, reasoning)
                if encoded is None:
                    continue
                if _chance(settings.data_seed, pair) < settings.validation_fraction:
                    result.held_out.append(encoded)
                else:
                    result.sources[source.name].append(encoded)
            if not result.sources[source.name]:
                raise _nothing_left(source, result.left_out, read - before)
        for pair in (pair for path in settings.validation for pair in read_pairs(path)):
            check()
            bar.update(1)
            read += 1
            if encoded := _encoded(pair, tokenizer, encoder, result.left_out, reasoning):
                result.held_out.append(encoded)
    for sentence in result.left_out.sentences():
        reporter.warn(sentence)
    return ReadPairs(result.sources, result.weights, result.held_out, read, result.left_out)


def _encoded(
    pair: PairSample, tokenizer: ChatTokenizer, encoder: PairEncoder, left_out: LeftOut, reasoning: bool
) -> EncodedPair | None:
    like = likeness(pair, reasoning=reasoning)
    if like:
        (left_out.identical if like == "identical" else left_out.white_space).add(pair.place)
        return None
    encoded = encoder(tokenizer, pair)
    if encoded.sides_are_equal:
        left_out.identical.add(pair.place)
        return None
    if encoded.length > left_out.seq_len:
        left_out.too_long.add(pair.place)
        left_out.longest = max(left_out.longest, encoded.length)
        return None
    return encoded


def _chance(seed: int, pair: PairSample) -> float:
    """A number from 0 to below 1 that depends on the prompt alone: the pairs of one prompt are held out together."""
    prompt = "|".join(message.model_dump_json(exclude_none=True) for message in pair.prompt)
    return chance(f"{seed}|pairs|{prompt}")


def _nothing_left(source: Source, left_out: LeftOut, read: int) -> ArtifactError:
    where = f"source {source.name} ({source.files[0]}{' and others' if len(source.files) > 1 else ''})"
    if not read:
        return ArtifactError("has no pairs", where=where, remedy="give it some, or leave it out")
    reasons = "; ".join(left_out.sentences()) or "all were held out"
    return ArtifactError(
        f"none of its {read} pairs is left to train on ({reasons})",
        where=where,
        remedy="leave it out, or give a larger --seq-len or a smaller --validation-fraction",
    )
