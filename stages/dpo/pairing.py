"""Right answers against wrong ones: which samples of a question become pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from evals.episodes.episode import Episode, EpisodeEnd
from stages.common.data.chat.encoding import EncodedSample
from stages.common.preferences.encoding import EncodedPair


@dataclass(frozen=True)
class Judged:
    """An episode and its grade: full marks are 1. None: it could not be graded in its time, and is left out."""

    episode: Episode
    score: float | None

    @property
    def is_right(self) -> bool:
        """Full marks, for an answer that came to its end and could be read."""
        well_formed = self.episode.end is EpisodeEnd.ANSWERED and not self.episode.response.problems
        return self.score == 1 and well_formed


def pair_up(samples: Sequence[Judged], most: int) -> list[EncodedPair]:
    """Up to `most` pairs of the samples of one question, each sample in one of them at most.

    Equal samples count once. Of all pairs of a right and a wrong sample those whose lengths differ least are taken first, so
    that length tells as little of what is right as the samples allow; ties go to the earlier sample.
    """
    graded = [sample for sample in samples if sample.score is not None]
    distinct = list({tuple(sample.episode.ids): sample for sample in reversed(graded)}.values())[::-1]
    right = [sample for sample in distinct if sample.is_right]
    wrong = [sample for sample in distinct if not sample.is_right]
    by_difference = sorted(
        product(range(len(right)), range(len(wrong))),
        key=lambda pair: (abs(_length(right[pair[0]]) - _length(wrong[pair[1]])), pair),
    )
    pairs: list[EncodedPair] = []
    used_right, used_wrong = set[int](), set[int]()
    for chosen, rejected in by_difference:
        if len(pairs) == most or chosen in used_right or rejected in used_wrong:
            continue
        used_right.add(chosen)
        used_wrong.add(rejected)
        place = right[chosen].episode.task.place
        pairs.append(
            EncodedPair(_as_sampled(right[chosen].episode), _as_sampled(wrong[rejected].episode), 1.0, place)
        )
    return pairs


def _length(sample: Judged) -> int:
    return sum(sample.episode.sampled)


def _as_sampled(episode: Episode) -> EncodedSample:
    """The tokens as they are, with the mask on what the model chose."""
    return EncodedSample(
        np.array(episode.ids, dtype=np.int32), np.array(episode.sampled, dtype=np.int8), episode.task.place
    )
