"""Both sides of a pair as tokens: whole answers with the mask of what the model wrote, or what a reward model reads."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model.reward import Conversation, scored_ids
from stages.common.data.chat.encoding import EncodedSample, encode_sample
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.preferences.lines import SIDES, PairSample, SideName


@dataclass(frozen=True)
class EncodedPair:
    """The mask of a side is 1 on the tokens whose log-probabilities are summed."""

    chosen: EncodedSample
    rejected: EncodedSample
    strength: float
    place: str

    @property
    def length(self) -> int:
        """Tokens of both sides: what the pair takes of a row."""
        return len(self.chosen.ids) + len(self.rejected.ids)

    @property
    def sides_are_equal(self) -> bool:
        """Equal tokens, which no training could tell apart."""
        return np.array_equal(self.chosen.ids, self.rejected.ids)


PairEncoder = Callable[[ChatTokenizer, PairSample], EncodedPair]


def encode_answers(tokenizer: ChatTokenizer, pair: PairSample) -> EncodedPair:
    """Each side behind the prompt as serving would give it, the mask on every turn of the assistant in that side.

    Raises:
        ArtifactError: training on it would teach something wrong (docs/sft.md, What is refused).
    """

    def encoded(name: SideName) -> EncodedSample:
        (document,) = encode_sample(tokenizer, pair.sample(name), "last")
        return document

    chosen, rejected = (encoded(name) for name in SIDES)
    return EncodedPair(chosen, rejected, pair.strength, pair.place)


def encode_scored(tokenizer: ChatTokenizer, pair: PairSample) -> EncodedPair:
    """Each side as a reward model reads it: no reasoning, up to the last stop token, which alone is in the mask."""

    def encoded(name: SideName) -> EncodedSample:
        messages = [message.for_template() for message in [*pair.prompt, *pair.side(name)]]
        ids = np.array(scored_ids(tokenizer.chat, Conversation(messages, pair.tools)), dtype=np.int32)
        mask = np.zeros(len(ids), dtype=np.int8)
        mask[-1] = 1
        return EncodedSample(ids, mask, f"{pair.place} ({name})")

    chosen, rejected = (encoded(name) for name in SIDES)
    return EncodedPair(chosen, rejected, pair.strength, pair.place)
