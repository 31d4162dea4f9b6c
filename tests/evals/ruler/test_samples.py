"""What holds for the samples of every task: their length, their answers, and what they are a function of."""

import dataclasses
import gzip
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from evals.ruler.haystacks import NOISE
from evals.ruler.material import DATA, words
from evals.ruler.samples import RESERVED, TASKS, RulerSample, samples
from evals.ruler.scoring import score
from model.errors import ArtifactError, UsageError
from tests.evals.ruler.conftest import MAKERS, gpt2, made, nano2, nano2_directory
from tests.evals.ruler.readers import assignments, coded_words, lists, needles, read

CASES = [
    *((task, 1500, maker) for task in TASKS for maker in MAKERS),
    *((task, length, nano2) for task in TASKS for length in (768, 5000) if (task, length) != ("cwe", 768)),
]
UUID = "7cea975f-bb56-429d-97ef-9963888b7fd2"


def tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text)["input_ids"])


def unfilled(sample: RulerSample) -> int:
    return sample.length - RESERVED - sample.answer_tokens - sample.prompt_tokens


def largest_unit(task: str, tokenizer: Any) -> int:
    """Tokens of the most that is added at a time, about, and a quarter more."""
    sentences = [f"{sentence}\n" for sentence in NOISE]
    units = {
        "niah_single_1": sentences,
        "niah_multikey_2": ["A special magic number for uninterested-chimpanzee is: 1234567.\n"],
        "niah_multikey_3": [f"A special magic uuid for {UUID} is: {UUID}.\n"],
        "vt": sentences,
        "cwe": [" 1234. uninterested" * 3],
        "fwe": [" qzxjvk" * 6],  # several ranks may gain a word at once
        "qa_1": ["x " * 150],
    }
    longest_words = [" impossibility--characteristically"]
    return 5 * max(tokens(tokenizer, unit) for unit in units.get(task, longest_words)) // 4


@pytest.mark.parametrize(("task", "length", "maker"), CASES)
def test_every_tokenizer_and_length(task: str, length: int, maker: Callable[[], Any]) -> None:
    """The prompt fits with the room for answer and template, no unit more would, and a reader finds the answers."""
    tokenizer = made(maker)
    for sample in samples(task, tokenizer, length, 4):
        whole = f"{sample.prompt} {sample.answer_prefix}"
        assert sample.prompt_tokens == tokens(tokenizer, whole)
        assert 0 <= unfilled(sample) <= largest_unit(task, tokenizer)
        assert read(sample) == set(sample.answers)
        assert sample.prompt == sample.prompt.strip()
        assert sample.answer_prefix == sample.answer_prefix.strip()
        for answer in sample.answers:
            assert answer not in sample.answer_prefix
            assert tokens(tokenizer, answer) < sample.answer_tokens


@pytest.mark.parametrize(
    ("task", "reserved"),
    [("niah_single_1", 50), ("niah_single_2", 50), ("niah_single_3", 20), ("niah_multikey_2", 20)],
)
def test_256_tokens_are_enough_for_one_needle(task: str, reserved: int, tokenizer: Any) -> None:
    for sample in samples(task, tokenizer, 256, 20, reserved=reserved):
        assert sample.prompt_tokens + sample.answer_tokens + reserved <= 256
        assert read(sample) == set(sample.answers)


@pytest.mark.parametrize("task", TASKS)
def test_room_for_the_answer(task: str, tokenizer: Any) -> None:
    """As published where the length is 1,024 or more, and never less than an answer takes."""
    for sample in samples(task, tokenizer, 2048, 10):
        needed = tokens(tokenizer, " ".join(f"{n}. {answer}" for n, answer in enumerate(sample.answers, 1)))
        published = TASKS[task].answer_tokens
        assert sample.answer_tokens == published or published < sample.answer_tokens < 2 * needed
        if task != "vt":
            assert sample.answer_tokens >= min(needed, published)


@pytest.mark.parametrize("task", ["niah_single_2", "vt", "cwe", "niah_multikey_3"])
def test_long_samples_fit_and_are_read(task: str) -> None:
    tokenizer = made(gpt2)
    for sample in samples(task, tokenizer, 40_000, 2):
        assert sample.prompt_tokens == tokens(tokenizer, f"{sample.prompt} {sample.answer_prefix}")
        assert 0 <= unfilled(sample) <= largest_unit(task, tokenizer) + 40_000 // 2000
        assert read(sample) == set(sample.answers)


@pytest.mark.parametrize("task", TASKS)
def test_the_seed_and_nothing_else_decides(task: str, tokenizer: Any) -> None:
    first = samples(task, tokenizer, 1500, 5, seed=1)
    assert samples(task, tokenizer, 1500, 5, seed=1) == first
    assert samples(task, tokenizer, 1500, 3, seed=1) == first[:3]
    other = samples(task, tokenizer, 1500, 5, seed=2)
    assert len({sample.answers for sample in (*first, *other)}) == 10


def test_other_processes_make_the_same(tokenizer: Any) -> None:
    code = (
        "import sys; from pathlib import Path; from model.tokenizer import load_tokenizer;"
        "from evals.ruler.samples import TASKS, samples; tokenizer = load_tokenizer(Path(sys.argv[1]));"
        "print([sample for task in TASKS for sample in samples(task, tokenizer, 1500, 2)])"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(nano2_directory())],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == repr(
        [sample for task in TASKS for sample in samples(task, tokenizer, 1500, 2)]
    )


@pytest.mark.parametrize("task", TASKS)
def test_lengths_and_tokenizers_ask_the_same(task: str, tokenizer: Any) -> None:
    """So that a difference between two lengths is one of length alone."""

    def asked(tokenizer: Any, length: int) -> list[Any]:
        return [
            (sample.answers, sample.depths if task not in ("vt", "qa_1") else ())
            for sample in samples(task, tokenizer, length, 4)
        ]

    assert asked(tokenizer, 2000) == asked(tokenizer, 3500) == asked(made(gpt2), 2000)


@pytest.mark.parametrize("task", TASKS)
def test_a_length_that_is_too_small_is_refused_with_the_least(task: str, tokenizer: Any) -> None:
    with pytest.raises(
        UsageError, match=r"100 tokens are too few: with this tokenizer \d+ are the least"
    ) as caught:
        samples(task, tokenizer, 100, 5)
    assert caught.value.where == f"RULER task {task}"
    least = int(caught.value.what.split()[-4])
    assert len(samples(task, tokenizer, least, 5)) == 5
    with pytest.raises(UsageError, match=f"{least} are the least"):
        samples(task, tokenizer, least - 1, 5)


def test_a_length_that_is_too_large_for_the_words_is_refused(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dataclasses.replace(words(), every=words().every[:300])
    monkeypatch.setattr("evals.ruler.frequency.words", lambda: few)
    assert len(samples("cwe", tokenizer, 2000, 1)) == 1
    with pytest.raises(UsageError, match=r"there is material for about \d+ tokens, not for 4000"):
        samples("cwe", tokenizer, 4000, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "qa_2"}, "no such task"),
        ({"length": 0}, "length is 0"),
        ({"length": 512.0}, "length is 512.0"),
        ({"length": "512"}, "length is '512'"),
        ({"length": True}, "length is True"),
        ({"count": 0}, "count is 0"),
        ({"count": None}, "count is None"),
        ({"seed": -1}, "seed is -1"),
        ({"reserved": -1}, "reserved is -1"),
        ({"reserved": 512}, "512 of 512 tokens are reserved"),
        ({"depths": [0, 50]}, "depths is"),
        ({"depths": [math.nan]}, "depths is"),
        ({"depths": "0.5"}, "depths is"),
        ({"depths": 0.5}, "depths is"),
        ({"depths": [None]}, "depths is"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, Any], message: str, tokenizer: Any) -> None:
    settings = {"task": "niah_single_1", "length": 512, "count": 2, **arguments}
    with pytest.raises(UsageError, match=message) as caught:
        samples(settings.pop("task"), tokenizer, settings.pop("length"), settings.pop("count"), **settings)
    assert caught.value.remedy


class _Silent:
    """Stands for a tokenizer whose vocabulary is lost: it makes nothing of any text."""

    name_or_path = "lost"

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[] for _ in texts]}


class _Blind(_Silent):
    """One token for any text: lengths never grow."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0] for _ in texts]}


def test_a_tokenizer_without_tokens_is_refused() -> None:
    with pytest.raises(ArtifactError, match="makes no tokens"):
        samples("niah_single_1", _Silent(), 512, 2)


@pytest.mark.parametrize("task", TASKS)
def test_a_tokenizer_that_does_not_count_ends_all_the_same(task: str) -> None:
    with pytest.raises(UsageError, match="there is material for about"):
        samples(task, _Blind(), 512, 2)


@pytest.mark.parametrize("task", TASKS)
def test_right_answers_pass_and_planted_wrong_ones_do_not(task: str, tokenizer: Any) -> None:
    """Each wrong answer is planted by the text itself: what a model that reads badly would say."""
    made_samples = samples(task, tokenizer, 2500, 12)
    for sample, other in zip(made_samples, [*made_samples[1:], made_samples[0]], strict=True):
        right = f"Surely: {'; '.join(sample.answers)}."
        assert score(task, right, sample.answers) == score(task, right.upper(), sample.answers) == 1
        assert score(task, "", sample.answers) == 0
        assert score(task, sample.answer_prefix, sample.answers) == 0
        assert score(task, ", ".join(wrong(sample)), sample.answers) == 0
        if task != "qa_1":
            assert score(task, "; ".join(other.answers), sample.answers) == 0
            for index in range(len(sample.answers)):
                spoiled = [*sample.answers]
                spoiled[index] = spoiled[index].translate(str.maketrans("12345abcdeABCDE", "23456bcdefBCDEF"))
                if spoiled[index] == sample.answers[index]:
                    spoiled[index] = spoiled[index][:-1]
                expected = 1 - 1 / len(sample.answers)
                assert score(task, ", ".join(spoiled), sample.answers) == pytest.approx(expected)


def wrong(sample: RulerSample) -> list[str]:
    if sample.task.startswith("niah"):
        return [value for _, value in needles(sample) if value not in sample.answers]
    if sample.task == "vt":
        return [name for pair in assignments(sample.prompt) for name in pair if name not in sample.answers]
    if sample.task == "cwe":
        return [word for part in lists(sample) for _, word in part if word not in sample.answers]
    if sample.task == "fwe":
        return [word for word in coded_words(sample) if word not in sample.answers]
    return ["I do not know"]


def test_the_data_is_small_and_its_licences_are_told() -> None:
    notice = (DATA / "NOTICE.md").read_text()
    files = sorted(DATA.glob("ruler_*.jsonl.gz"))
    assert len(files) == 3
    for file in files:
        rows = gzip.decompress(file.read_bytes()).splitlines()
        assert file.stat().st_size < 300_000
        assert f"| {file.name} | {len(rows)} |" in notice
