from collections import Counter

import pytest

from stages.data.synth.dice import Dice


def test_a_name_always_gives_the_same_choices() -> None:
    """The figures pin the sequence: another Python version or platform has to give these, too."""
    dice = Dice("sums", 1, "train")
    assert [dice.below(1000) for _ in range(6)] == [422, 617, 269, 827, 488, 338]
    assert Dice("a", 1).digits(30) == 926341140762016666922413184421
    assert Dice("a", 1).shuffled("abcdefgh") == list("hcgefdba")


def test_names_do_not_run_together() -> None:
    first, second = Dice("a", "bc"), Dice("ab", "c")
    assert [first.below(10**6) for _ in range(3)] != [second.below(10**6) for _ in range(3)]


def test_choices_are_fair() -> None:
    dice = Dice("fair")
    counts = Counter(dice.integer(1, 5) for _ in range(10_000))
    assert sorted(counts) == [1, 2, 3, 4, 5]
    assert all(1800 < count < 2200 for count in counts.values())
    places = Counter(dice.shuffled("abc")[0] for _ in range(9_000))
    assert all(2700 < count < 3300 for count in places.values())
    assert 2700 < sum(dice.chance(0.3) for _ in range(10_000)) < 3300


def test_a_sample_has_different_items_or_is_refused() -> None:
    assert sorted(Dice("s").sample("abcd", 4)) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="5 of 4"):
        Dice("s").sample("abcd", 5)


def test_digits_has_as_many_as_asked() -> None:
    dice = Dice("digits")
    for count in (1, 2, 17, 60):
        assert all(len(str(dice.digits(count))) == count for _ in range(50))
