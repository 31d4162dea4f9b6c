"""The published rules of each task: how much is hidden, where it stands, and how often words come."""

import dataclasses
import random
import re
from collections import Counter
from itertools import pairwise
from math import pi
from typing import Any

import pytest
from scipy import stats

from evals.ruler.frequency import CodedWordsDraft, zeta_counts
from evals.ruler.haystacks import NOISE, insert, place
from evals.ruler.material import essay_sentences, questions, words
from evals.ruler.needles import Distinct
from evals.ruler.samples import TASKS, RulerSample, samples
from evals.ruler.setting import POSITIONS
from tests.evals.ruler.readers import (
    NEEDLE,
    asked_keys,
    assignments,
    coded_words,
    documents,
    gold,
    lists,
    needles,
)

NIAH = [task for task in TASKS if task.startswith("niah")]
ESSAYS = ["niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multivalue", "niah_multiquery"]
LINE = "The grass grows green. The sky stays blue. The sun shines yellow. Off we go. Out and home again."


def haystack(sample: RulerSample) -> str:
    return "\n".join(sample.prompt.splitlines()[1:-1])


class TestNeedles:
    @pytest.mark.parametrize(
        ("task", "keys", "values", "asked", "key", "value"),
        [
            ("niah_single_1", 1, 1, 1, "word", "number"),
            ("niah_single_2", 1, 1, 1, "word", "number"),
            ("niah_single_3", 1, 1, 1, "word", "uuid"),
            ("niah_multikey_1", 4, 1, 1, "word", "number"),
            ("niah_multikey_2", None, 1, 1, "word", "number"),
            ("niah_multikey_3", None, 1, 1, "uuid", "uuid"),
            ("niah_multivalue", 1, 4, 1, "word", "number"),
            ("niah_multiquery", 4, 1, 4, "word", "number"),
        ],
    )
    def test_counts_and_kinds(
        self, task: str, keys: int | None, values: int, asked: int, key: str, value: str, tokenizer: Any
    ) -> None:
        uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
        forms = {
            "word": re.compile(r"[a-z]{4,10}-[a-z]{4,10}"),
            "number": re.compile(r"[1-9]\d{6}"),
            "uuid": uuid,
        }
        for sample in samples(task, tokenizer, 2000, 20):
            hidden = needles(sample)
            by_key = Counter(key for key, _ in hidden)
            assert keys is None or len(by_key) == keys
            assert set(by_key.values()) == {values}
            assert len({value for _, value in hidden}) == len(hidden), "no value stands for two needles"
            assert len(asked_keys(sample)) == asked
            assert set(asked_keys(sample)) <= set(by_key)
            assert len(sample.answers) == asked * values
            assert all(forms[key].fullmatch(name) for name in by_key)
            assert all(forms[value].fullmatch(number) for _, number in hidden)
            for answer in sample.answers:
                assert f"{sample.prompt} {sample.answer_prefix}".count(answer) == 1
            if key == "word":
                for name in by_key:
                    adjective, noun = name.split("-")
                    assert adjective in words().adjectives
                    assert noun in words().nouns
            kind = sample.answer_prefix.split()[3].removesuffix("s")
            assert kind == value
            assert sample.answer_prefix.split()[-1] == ("is" if len(sample.answers) == 1 else "are")

    def test_nothing_is_drawn_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where there are six keys, six draws give all of them."""
        few = dataclasses.replace(words(), adjectives=("red", "blue"), nouns=("fox", "dog", "cat"))
        monkeypatch.setattr("evals.ruler.needles.words", lambda: few)
        draw = Distinct("word", random.Random(1))
        assert len({draw() for _ in range(6)}) == 6

    def test_any_key_of_several_may_be_asked(self, tokenizer: Any) -> None:
        """The asked needle is at each rank of depth about as often."""
        ranks: Counter[int] = Counter()
        for sample in samples("niah_multikey_1", tokenizer, 768, 200):
            ranks[[value for _, value in needles(sample)].index(sample.answers[0])] += 1
        assert stats.chisquare([ranks[rank] for rank in range(4)]).pvalue > 0.01

    @pytest.mark.parametrize("task", ["niah_single_1", "niah_multikey_2"])
    def test_every_line_but_the_needle_is_filling(self, task: str, tokenizer: Any) -> None:
        for sample in samples(task, tokenizer, 3000, 5):
            lines = haystack(sample).splitlines()
            if task == "niah_multikey_2":
                assert all(NEEDLE.search(line) for line in lines)
            else:
                others = [line for line in lines if not NEEDLE.search(line)]
                assert len(others) == len(lines) - 1
                assert set(others[:-1]) == {LINE} == {" ".join(NOISE)}
                assert LINE.startswith(others[-1])

    @pytest.mark.parametrize("task", ESSAYS)
    def test_the_rest_is_a_run_of_essays(self, task: str, tokenizer: Any) -> None:
        text = " ".join(word for sentence in (*essay_sentences(), *essay_sentences()) for word in sentence)
        for sample in samples(task, tokenizer, 1500, 10):
            bare = re.sub(r"A special magic \w+ for \S+ is: \S+\.", "", haystack(sample))
            assert " ".join(bare.split()) in text

    def test_essays_are_repeated_when_they_are_too_short(
        self, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few = essay_sentences()[:3]
        monkeypatch.setattr("evals.ruler.haystacks.essay_sentences", lambda: few)
        (sample,) = samples("niah_single_2", tokenizer, 1500, 1)
        assert haystack(sample).count(" ".join(few[1])) > 5


class TestDepths:
    def test_essay_needles_stand_at_40_even_depths(self, tokenizer: Any) -> None:
        assert len(set(POSITIONS)) == 40
        assert (min(POSITIONS), max(POSITIONS)) == (0, 1)
        assert all(abs(after - before - 1 / 39) < 0.01 for before, after in pairwise(POSITIONS))
        counts = Counter(sample.depths[0] for sample in samples("niah_single_2", tokenizer, 400, 800))
        assert set(counts) == set(POSITIONS)
        assert stats.chisquare([counts[depth] for depth in POSITIONS]).pvalue > 0.01

    @pytest.mark.parametrize("task", ["niah_multivalue", "niah_multiquery"])
    def test_needles_of_a_sample_stand_apart(self, task: str, tokenizer: Any) -> None:
        for sample in samples(task, tokenizer, 3000, 30):
            assert len(set(sample.depths)) == 4

    @pytest.mark.parametrize("task", ESSAYS)
    def test_the_depth_is_where_the_needle_is(self, task: str, tokenizer: Any) -> None:
        """Between two sentences, so that the share of the text before it is the depth, less a sentence at most."""
        for sample in samples(task, tokenizer, 6000, 10):
            text = haystack(sample)
            for answer, depth in zip(sample.answers, sample.depths, strict=True):
                start = text.rindex("A special magic", 0, text.index(answer))
                assert start == 0 or depth == 1 or text[start - 2] in ".?!\"')"
                assert start / len(text) == pytest.approx(depth, abs=0.05)

    @pytest.mark.parametrize("task", ["niah_single_1", "niah_multikey_2", "niah_multikey_3"])
    def test_among_lines_any_line_is_as_likely(self, task: str, tokenizer: Any) -> None:
        shares = []
        for sample in samples(task, tokenizer, 1500, 150):
            lines = haystack(sample).splitlines()
            (line,) = [number for number, text in enumerate(lines) if sample.answers[0] in text]
            assert line == pytest.approx(sample.depths[0] * (len(lines) - 1), abs=1.2)
            shares.append((line + 0.5) / len(lines))
        assert stats.kstest(shares, "uniform").pvalue > 0.01

    @pytest.mark.parametrize("task", [*NIAH, "qa_1"])
    def test_a_grid_is_gone_through_in_turn(self, task: str, tokenizer: Any) -> None:
        grid = (0, 0.25, 0.5, 0.75, 1)
        made = samples(task, tokenizer, 3000, 10, depths=grid)
        assert [depth for sample in made for depth in sample.depths][: 2 * len(grid)] == [*grid, *grid]
        counts = Counter(depth for sample in made for depth in sample.depths)
        assert len(set(counts.values())) == 1
        for sample in made:
            for answer, depth in zip(sample.answers, sample.depths, strict=False):
                if task == "qa_1":
                    share = documents(sample).index(gold(sample)) / (len(documents(sample)) - 1)
                    tolerance = 0.51 / (len(documents(sample)) - 1)
                else:
                    text = haystack(sample)
                    share = text.index(answer) / len(text)
                    tolerance = 0.1
                assert share == pytest.approx(depth, abs=tolerance)

    def test_a_grid_changes_the_depths_and_nothing_else(self, tokenizer: Any) -> None:
        drawn = samples("niah_multikey_1", tokenizer, 2000, 5)
        fixed = samples("niah_multikey_1", tokenizer, 2000, 5, depths=[0.5])
        assert [sample.answers for sample in drawn] == [sample.answers for sample in fixed]
        assert {sample.depths for sample in fixed} == {(0.5,)}

    def test_places(self) -> None:
        parts = ["long" * 25, "a", "b", "c"]
        assert [place(parts, depth) for depth in (0, 0.4, 0.6, 0.99, 1)] == [0, 0, 1, 3, 4]
        assert place([], 0.5) == 0

    def test_insertion(self) -> None:
        parts = list("abcd")
        assert insert(parts, ["X"], [0]) == list("Xabcd")
        assert insert(parts, ["X"], [4]) == list("abcdX")
        assert insert(parts, ["X", "Y", "Z"], [3, 1, 3]) == list("aYbcXZd")
        assert insert([], ["X", "Y"], [0, 0]) == ["X", "Y"]


class TestVariableTracking:
    def test_a_chain_of_four_hops_and_a_worked_example(self, tokenizer: Any) -> None:
        for sample in samples("vt", tokenizer, 3000, 20):
            example, asked = sample.prompt.split("\n\nFollow the chain")
            for text, letters in ((example, 3), (asked, 5)):
                chain = assignments(text)
                (_, value), *hops = chain
                names = [name for name, _ in chain]
                assert re.fullmatch(r"[1-9]\d{4}", value)
                assert text.count(f"assigned the value {value}") >= 1
                assert [source for _, source in hops] == names[:-1], "each hop follows the one before it"
                assert len(names) == len(set(names)) == 5
                assert all(re.fullmatch(rf"[A-Z]{{{letters}}}", name) for name in names)
                noise = [line for line in text.splitlines() if line and line in LINE]
                assert set(noise[:-1]) <= {LINE}
                if letters == 5:
                    assert tuple(names) == sample.answers
                else:
                    assert example.endswith(" ".join(names))
            assert len({value for _, value in assignments(sample.prompt) if value.isdigit()}) == 2
            assert f"5 variables are assigned the value {value}" in sample.answer_prefix

    def test_assignments_stand_at_different_lines(self, tokenizer: Any) -> None:
        for sample in samples("vt", tokenizer, 3000, 20):
            assert len(set(sample.depths)) == 5
            lines = sample.prompt.split("\n\n")[-1].splitlines()[:-1]
            noise = [line for line in lines if line.startswith("The grass")]
            for name, depth in zip(sample.answers, sample.depths, strict=True):
                before = lines[: next(n for n, line in enumerate(lines) if line.startswith(f"VAR {name} ="))]
                assert sum(line.startswith("The grass") for line in before) == round(depth * len(noise))

    @pytest.mark.parametrize("length", [768, 1500, 4096])
    def test_the_example_is_short(self, length: int, tokenizer: Any) -> None:
        for sample in samples("vt", tokenizer, length, 3):
            example = sample.prompt.split("\n\nFollow the chain")[0]
            assert len(tokenizer(example)["input_ids"]) <= max(min(500, length // 4), 220)


class TestCommonWords:
    @pytest.mark.parametrize(("length", "full"), [(1500, False), (4000, False), (6000, True)])
    def test_counts(self, length: int, full: bool, tokenizer: Any) -> None:
        expected = ((10, 3, 40), (30, 3)) if full else ((3, 1, 20), (6, 1))
        for sample in samples("cwe", tokenizer, length, 5):
            example, asked = lists(sample)
            for entries in (example, asked):
                assert [number for number, _ in entries] == list(range(1, len(entries) + 1))
            (often, seldom, size), (common, other) = expected
            counts = Counter(word for _, word in example)
            assert sorted(counts.values(), reverse=True) == [often] * 10 + [seldom] * (size - 10)
            answer = sample.prompt.partition("list above are: ")[2].partition("\n")[0]
            assert set(re.findall(r"\d+\. (\w+)", answer)) == {
                word for word, n in counts.items() if n == often
            }
            main = Counter(word for _, word in asked)
            assert {main[word] for word in sample.answers} == {common}
            assert {n for word, n in main.items() if word not in sample.answers} == {other}
            assert len(sample.answers) == len(set(sample.answers)) == 10
            assert not set(counts) & set(main), "the example gives nothing away"

    def test_the_full_list_waits_until_it_fits(self, tokenizer: Any) -> None:
        """A small vocabulary makes more than 4,096 tokens of it."""
        (short,), (long,) = (samples("cwe", tokenizer, length, 1) for length in (4096, 20_000))
        assert [Counter(word for _, word in lists(one)[1])[one.answers[0]] for one in (short, long)] == [
            6,
            30,
        ]

    def test_no_answer_is_found_in_another_word(self, tokenizer: Any) -> None:
        for sample in samples("cwe", tokenizer, 3000, 20):
            others = sample.prompt.lower()
            for answer in sample.answers:
                others = others.replace(f". {answer}", "")
            assert not [answer for answer in sample.answers if answer in others]

    def test_the_list_is_shuffled(self, tokenizer: Any) -> None:
        for sample in samples("cwe", tokenizer, 3000, 10):
            entries = [word for _, word in lists(sample)[1]]
            places = [n / len(entries) for n, word in enumerate(entries) if word in sample.answers]
            assert stats.kstest(places, "uniform").pvalue > 1e-4


class TestCodedWords:
    def test_counts_follow_the_zeta_law(self, tokenizer: Any) -> None:
        """Rank k comes int(n / (k^2 zeta(2))) times for one n."""
        for length in (512, 1500, 6000):
            for sample in samples("fwe", tokenizer, length, 10):
                counts = coded_words(sample)
                ranked = ["...", *sample.answers]
                ranked += sorted(set(counts) - set(ranked), key=lambda word: -counts[word])
                lowest = max(counts[word] * k * k * pi**2 / 6 for k, word in enumerate(ranked, 1))
                highest = min((counts[word] + 1) * k * k * pi**2 / 6 for k, word in enumerate(ranked, 1))
                assert lowest < highest, "no n gives these counts"
                assert len(ranked) <= max(length // 50, 5)
                assert all(re.fullmatch("[a-z]{6}", word) for word in ranked[1:])

    def test_the_three_answers_are_never_tied(self, tokenizer: Any) -> None:
        for length in (*range(380, 800, 20), 1000, 3000):
            for sample in samples("fwe", tokenizer, length, 2):
                ordered = [n for _, n in coded_words(sample).most_common(5)]
                assert all(before > after for before, after in pairwise(ordered))

    def test_the_least_size_is_the_first_after_which_no_ranks_are_tied(self) -> None:
        def tied(size: int) -> bool:
            return not all(before > after for before, after in pairwise(zeta_counts(size, 5)))

        assert tied(CodedWordsDraft.least - 1)
        assert not any(map(tied, range(CodedWordsDraft.least, 10_000)))

    def test_the_law_is_scipys(self) -> None:
        for size in (53, 1000, 123_457):
            law = stats.zipf.pmf(range(1, 101), 2.0) * size
            assert zeta_counts(size, 100) == [int(share + 1e-9) for share in law]


class TestQuestions:
    def test_documents(self, tokenizer: Any) -> None:
        """The paragraph asked about once, first others of its article, then others; never the same at both lengths."""
        known = set(questions().paragraphs)
        articles = {each.paragraph: set(each.article) for each in questions().asked}
        for sample in samples("qa_1", tokenizer, 3000, 20):
            shown = documents(sample)
            assert set(shown) <= known
            assert shown.count(gold(sample)) == 1
            assert len(shown) == len(set(shown)) > 3
            numbers = [questions().paragraphs.index(text) for text in shown]
            own = articles[questions().paragraphs.index(gold(sample))]
            assert len(own & set(numbers)) >= min(len(own), len(numbers) - 1) - 1

    def test_paragraphs_come_again_when_all_are_there(self, tokenizer: Any) -> None:
        (sample,) = samples("qa_1", tokenizer, 60_000, 1)
        counts = Counter(documents(sample))
        assert set(counts) == set(questions().paragraphs)
        assert counts[gold(sample)] == 1
        assert max(counts.values()) > 1

    def test_questions_are_not_repeated_before_all_were_asked(self, tokenizer: Any) -> None:
        count = len(questions().asked)
        made = samples("qa_1", tokenizer, 2000, count + 2)
        asked = [sample.prompt.rpartition("\n\nQuestion: ")[2] for sample in made]
        assert Counter(asked[:count]) == Counter(each.text for each in questions().asked)
        assert asked[count:] == asked[:2]
        assert made[count].prompt != made[0].prompt

    def test_the_place_of_the_paragraph_is_drawn(self, tokenizer: Any) -> None:
        made = samples("qa_1", tokenizer, 2000, 150)
        assert stats.kstest([sample.depths[0] for sample in made], "uniform").pvalue > 0.01
        for sample in made[:20]:
            last = len(documents(sample)) - 1
            assert documents(sample).index(gold(sample)) == round(sample.depths[0] * last)
