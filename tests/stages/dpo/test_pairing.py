"""Which samples of a question become pairs."""

from evals.episodes.episode import Episode, EpisodeEnd, Turn
from evals.episodes.task import Task
from model.chat.events import Defect, Malformed, ParsedMessage
from stages.dpo.pairing import Judged, pair_up

TASK = Task([{"role": "user", "content": "?"}], None, False, {}, "", "questions.jsonl line 3")


def sample(
    score: float | None,
    length: int,
    *,
    mark: int = 0,
    end: EpisodeEnd = EpisodeEnd.ANSWERED,
    problems: tuple[Malformed, ...] = (),
) -> Judged:
    """Two tokens of prompt, `length` sampled ones with a forced one behind the first; mark tells answers apart."""
    ids = [1, 2, mark + 10, 3, *range(50, 50 + length - 1)]
    sampled = [False, False, True, False, *[True] * (length - 1)]
    response = ParsedMessage(reasoning="", content="", tool_calls=(), problems=problems)
    turn = Turn(2, len(ids), "", 0, length, False)
    episode = Episode(TASK, 0, ids, sampled, [0.0] * len(ids), [], response, end, [turn])
    return Judged(episode, score)


def lengths(samples: list[Judged], most: int = 9) -> list[tuple[int, int]]:
    return [(int(p.chosen.mask.sum()), int(p.rejected.mask.sum())) for p in pair_up(samples, most)]


def test_right_is_paired_with_wrong_of_the_nearest_length_each_sample_once() -> None:
    samples = [sample(1, 5), sample(1, 20), sample(0, 21), sample(0, 9), sample(0, 4)]
    assert lengths(samples) == [(5, 4), (20, 21)]
    assert lengths(samples, most=1) == [(5, 4)]
    assert lengths([sample(1, 5)]) == lengths([sample(0, 5), sample(0, 6)]) == lengths([]) == []


def test_full_marks_alone_are_right() -> None:
    assert lengths([sample(0.9, 5), sample(1, 6)]) == [(6, 5)]
    assert lengths([sample(0.9, 5), sample(0.5, 6)]) == []


def test_unfinished_and_malformed_answers_are_wrong_whatever_their_grade() -> None:
    malformed = (Malformed(Defect.INVALID_TOOL_CALL, "x"),)
    assert lengths([sample(1, 5), sample(1, 6, end=EpisodeEnd.LENGTH)]) == [(5, 6)]
    assert lengths([sample(1, 5), sample(1, 7, end=EpisodeEnd.TURNS)]) == [(5, 7)]
    assert lengths([sample(1, 5), sample(1, 8, problems=malformed)]) == [(5, 8)]


def test_equal_samples_count_once_and_ungraded_ones_not_at_all() -> None:
    assert lengths([sample(1, 5), sample(1, 5), sample(0, 6, mark=1), sample(0, 6, mark=1)]) == [(5, 6)]
    assert lengths([sample(1, 5), sample(1, 5, mark=2), sample(0, 6), sample(0, 6, mark=1)]) == [(5, 6)] * 2
    assert lengths([sample(1, 5), sample(None, 6)]) == []


def test_tokens_stay_as_they_were_and_the_mask_is_what_the_model_chose() -> None:
    (pair,) = pair_up([sample(1, 3), sample(0, 4)], 4)
    assert pair.chosen.ids.tolist() == [1, 2, 10, 3, 50, 51]
    assert pair.chosen.mask.tolist() == [0, 0, 1, 0, 1, 1]
    assert pair.strength == 1
    assert pair.place == "questions.jsonl line 3"
