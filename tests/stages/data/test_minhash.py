import numpy as np
import pytest

from stages.data.prepare.minhash import MinHash, band_rows, earlier_likeness, normalize
from tests.stages.common.data.helpers import story

SKETCH = MinHash(permutations=128, shingle_words=5)


def _signatures(texts: list[str]) -> np.ndarray:
    return np.stack(
        [signature for text in texts if (signature := SKETCH.signature(normalize(text))) is not None]
    )


def _jaccard(first: str, second: str) -> float:
    sets = [
        {tuple(words[at : at + 5]) for at in range(len(words) - 4)}
        for words in (first.split(), second.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("changed", [0, 3, 20, 60])
def test_agreement_of_signatures_estimates_the_jaccard_similarity(changed: int) -> None:
    words = [f"word{number}" for number in range(400)]
    other = [f"new{number}" if number < changed else word for number, word in enumerate(words)]
    sketch = MinHash(permutations=1024, shingle_words=5)
    first, second = (sketch.signature(" ".join(text)) for text in (words, other))
    assert first is not None
    assert second is not None
    assert (first == second).mean() == pytest.approx(_jaccard(" ".join(words), " ".join(other)), abs=0.05)


def test_signatures_ignore_case_and_space_but_not_order() -> None:
    text = story(1)
    base = _signatures([text])[0]
    assert (_signatures([text.upper().replace(" ", "\n  ")])[0] == base).all()
    assert (_signatures([" ".join(reversed(text.split()))])[0] == base).mean() < 0.1


def test_a_signature_does_not_depend_on_how_many_shingles_are_hashed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = _signatures([story(1, 500)])
    monkeypatch.setattr("stages.data.prepare.minhash._SHINGLES_AT_ONCE", 7)
    assert (_signatures([story(1, 500)]) == before).all()


def test_signatures_are_pinned() -> None:
    signature = SKETCH.signature("the quick brown fox jumps over the lazy dog")
    assert signature is not None
    assert signature[:3].tolist() == [183371771, 905776165, 1703700791]


def test_text_without_words_has_no_signature_and_short_text_has() -> None:
    assert SKETCH.signature("!!! ... ---") is None
    assert SKETCH.signature("two words") is not None
    assert SKETCH.signature("世界你好吗朋友") is not None


def test_likeness_finds_the_first_earlier_one_and_nothing_else() -> None:
    texts = [story(number) for number in range(200)]
    near = texts[10].replace("Story 10", "Tale 10")
    nearer = texts[10] + "the end"
    texts += [near, texts[20].upper(), nearer]
    order = np.arange(len(texts))
    earlier = earlier_likeness(_signatures(texts), order, 0.8)
    assert {place: int(earlier[place]) for place in np.flatnonzero(earlier >= 0)} == {
        200: 10,
        201: 20,
        202: 10,
    }
    # Precedence is the order given, not the order of the rows.
    backwards = earlier_likeness(_signatures(texts), order[::-1], 0.8)
    assert backwards[202 - 10] == 0
    assert backwards[202 - 200] == 0


def test_a_large_group_of_copies_leaves_one() -> None:
    signatures = np.repeat(_signatures([story(1)]), 300, axis=0)
    assert earlier_likeness(signatures, np.arange(300), 0.8).tolist() == [-1, *[0] * 299]


@pytest.mark.parametrize(("similarity", "rows"), [(0.8, 7), (0.5, 3), (1.0, 128), (0.01, 1)])
def test_bands_meet_at_the_threshold(similarity: float, rows: int) -> None:
    assert band_rows(128, similarity) == rows
