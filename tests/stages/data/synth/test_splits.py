"""No problem is in two splits: not at one seed, nor at different seeds or sizes."""

import json
from collections import Counter
from typing import Any

import pytest

from stages.data.synth.catalog import FAMILIES
from stages.data.synth.config import SynthConfig
from stages.data.synth.dice import Dice
from stages.data.synth.drawing import Drawer, Source, allot, apportion, schedule, sources
from stages.data.synth.problem import Family, Split, Style, split_of
from stages.data.synth.reasoning.numbers import Remainders, Sums
from stages.data.synth.reasoning.variables import Chains


def written(family: Family, split: Split, seed: int, level: int, count: int) -> list[dict[str, Any]]:
    """What the stage would write: the user's words and the problem."""
    drawer, found = Drawer(split, seed), []
    source = Source(family, level, 1.0)
    while len(found) < count:
        identity, problem = drawer.draw(source)
        held_out = split is not Split.TRAIN and drawer.dice(source).chance(0.5)
        sample = problem.write(drawer.dice(source), Style(held_out=held_out))
        if sample is not None:
            said = [message["content"] for message in sample.messages if message["role"] == "user"]
            found.append(
                {"identity": identity, "essence": json.dumps(problem.essence), "said": " ".join(said)}
            )
    return found


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_splits_are_disjoint_over_seeds_and_sizes(family: Family) -> None:
    by_split: dict[Split, dict[str, set[Any]]] = {}
    for split in Split:
        rows = [
            row
            for seed, level, count in ((0, 1, 12), (1, 1, 20), (2, 2, 15), (3, 3, 15), (0, 3, 25))
            for row in written(family, split, seed, level, count)
        ]
        by_split[split] = {key: {row[key] for row in rows} for key in ("identity", "essence", "said")}
    for key in ("identity", "essence", "said"):
        train, dev, test = (by_split[split][key] for split in (Split.TRAIN, Split.DEV, Split.TEST))
        assert not train & dev
        assert not train & test
        assert not dev & test


def test_seeds_draw_from_the_same_problems() -> None:
    """So that it is the split, and not chance, which keeps dev and test apart from train."""
    identities = {
        (split, seed): {row["identity"] for row in written(FAMILIES["equations"], split, seed, 1, 150)}
        for split in (Split.TRAIN, Split.TEST)
        for seed in (0, 1)
    }
    assert len(identities[Split.TEST, 0] & identities[Split.TEST, 1]) > 50
    assert len(identities[Split.TRAIN, 0] & identities[Split.TRAIN, 1]) > 5
    assert not (identities[Split.TRAIN, 0] | identities[Split.TRAIN, 1]) & identities[Split.TEST, 1]


def test_the_split_is_a_function_of_the_problem_alone() -> None:
    """Pinned: a change here would move problems between splits, and so leak test problems into training."""
    problems = [
        ("sums", [1, 2, 3]),
        ("chains", [["3"], ["v0", "+", "4"]]),
        ("stock", "red box"),
        ("layout", ["x", "y", []]),
    ]
    assert [str(split_of(*problem)) for problem in problems] == ["test", "dev", "train", "train"]


def test_a_tenth_each_is_dev_and_test() -> None:
    counts = Counter(split_of("sums", [number]) for number in range(20_000))
    assert 1800 < counts[Split.DEV] < 2200
    assert 1800 < counts[Split.TEST] < 2200


def test_problems_that_are_the_same_in_essence_share_a_split() -> None:
    assert Sums((3, 1, 2)).essence == Sums((1, 2, 3)).essence
    assert Sums((3, 1, 2)).content != Sums((1, 2, 3)).content
    one = Chains((("a", "3"), ("b", "a + 4"), ("z", "a - 1"), ("c", "b - 2")), "c")
    other = Chains((("q", "r - 2"), ("p", "3"), ("r", "p + 4")), "q")
    assert one.essence == other.essence
    assert Remainders(10, 3, (("+", 4), ("+", 5))).essence == Remainders(10, 4, (("+", 5), ("+", 3))).essence
    assert Remainders(10, 3, (("+", 4), ("*", 5))).essence != Remainders(10, 3, (("*", 5), ("+", 4))).essence


def test_all_wishes_of_a_dialogue_are_in_its_split() -> None:
    for name in ("library", "stock", "timetable"):
        dice = Dice("wishes", name)
        for _ in range(200):
            problem = FAMILIES[name].draw(4, dice)
            split = FAMILIES[name].split(problem)
            subjects = [errand.subject for errand in problem.errands]  # type: ignore[attr-defined]
            subjects += [problem.outside] if problem.outside else []  # type: ignore[attr-defined]
            assert {split_of(name, subject) for subject in subjects} == {split}


def test_train_never_uses_held_out_wordings() -> None:
    """Of each family: no question of train is worded as those that are flagged."""
    for name in ("sums", "grid", "layout", "todo"):
        dice = Dice("wordings", name)
        problems = [FAMILIES[name].draw(1, dice) for _ in range(200)]
        texts: dict[bool, set[str]] = {False: set(), True: set()}
        for problem in problems:
            for held_out in (False, True):
                sample = problem.write(dice, Style(held_out=held_out))
                assert sample is not None
                texts[held_out] |= {
                    message["content"] for message in sample.messages if message["role"] == "user"
                }
                if name in ("sums", "grid"):
                    assert sample.metadata["wording"].startswith("h") == held_out
        assert not texts[False] & texts[True]


def test_shares_are_exact() -> None:
    assert allot(10, [0.5, 0.3, 0.2]) == [5, 3, 2]
    assert allot(10, [1, 1, 1]) == [4, 3, 3]
    assert allot(0, [1, 2]) == [0, 0]
    assert allot(2, [1] * 5) == [1, 1, 0, 0, 0]
    assert Counter(schedule([3, 0, 2], Dice("order"))) == {0: 3, 2: 2}
    found = sources(
        SynthConfig(kinds={"reasoning": 3, "tools": 1}, families=["sums:1-2", "chains:1", "todo:2"])
    )
    assert [(source.family.name, source.level, source.share) for source in found] == [
        ("sums", 1, 0.1875),
        ("sums", 2, 0.1875),
        ("chains", 1, 0.375),
        ("todo", 2, 0.25),
    ]
    assert apportion(16, found) == [3, 3, 6, 4]
    everything = sources(SynthConfig())
    counts = apportion(1000, everything)
    by_kind = Counter[str]()
    for source, count in zip(everything, counts, strict=True):
        by_kind[source.family.kind] += count
    assert by_kind == {"reasoning": 600, "instructions": 200, "tools": 200}
