"""lm-eval's own RULER as the oracle: its scores of the same outputs, and what its generators hide and count.

Its essay and question tasks download their texts, so the generators of the other six are compared.
"""

import random
import re
from collections import Counter
from math import pi
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm_eval.tasks
import nltk
import pytest
import wonderwords
import yaml

from evals.ruler.samples import RESERVED, TASKS, samples
from evals.ruler.scoring import score
from tests.evals.ruler.conftest import gpt2, made

LENGTH = 8192
COUNT = 10


_RandomWord = wonderwords.RandomWord


def few_words() -> Any:
    """lm-eval joins every adjective to every noun and sorts the millions of pairs, which takes half a minute."""
    words = _RandomWord(enhanced_prefixes=False)
    words._categories["adjectives"] = words._categories["adjectives"][:20]
    return words


@pytest.fixture(scope="module")
def peer() -> Any:
    """lm-eval's modules; importing them fetches a sentence splitter that these tasks do not use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk, "download", lambda *_, **__: True)
        from lm_eval.tasks.ruler import common_utils, cwe_utils, fwe_utils, vt_utils

        patch.setattr("wonderwords.RandomWord", few_words)
        from lm_eval.tasks.ruler import niah_utils, prepare_niah

    return SimpleNamespace(
        common=common_utils,
        cwe=cwe_utils,
        fwe=fwe_utils,
        niah=prepare_niah,
        template=niah_utils.TEMPLATE,
        vt=vt_utils,
    )


def theirs(peer: Any, task: str, length: int) -> list[dict[str, Any]]:
    tokenizer = made(gpt2)
    made_samples: list[dict[str, Any]]
    if task == "vt":
        (example,) = peer.vt.sys_vartrack_w_noise_random(tokenizer, 1, 500, incremental=5)
        made_samples = peer.vt.sys_vartrack_w_noise_random(tokenizer, COUNT, length, icl_example=example)
    elif task == "cwe":
        made_samples = peer.cwe.sys_word_pair_random(COUNT, length, tokenizer)
    elif task == "fwe":
        made_samples = peer.fwe.sys_kwext(tokenizer, length, COUNT)
    else:
        kind, key, value = {
            "niah_single_1": ("repeat", "words", "numbers"),
            "niah_multikey_2": ("needle", "words", "numbers"),
            "niah_multikey_3": ("needle", "uuids", "uuids"),
        }[task]
        made_samples = peer.niah.generate_samples(
            *(peer.niah.get_haystack(kind), tokenizer),
            max_seq_length=length,
            type_haystack=kind,
            type_needle_k=key,
            type_needle_v=value,
            template=peer.template,
            num_samples=COUNT,
        )
    return made_samples


def ours(task: str, length: int) -> list[dict[str, Any]]:
    return [
        {"input": one.prompt, "outputs": list(one.answers), "gen_prefix": one.answer_prefix}
        for one in samples(task, made(gpt2), length, COUNT)
    ]


def measure(task: str, sample: dict[str, Any]) -> Any:
    """What both kinds of samples must have in common, read from the text."""
    text, answers = sample["input"], sample["outputs"]
    if task.startswith("niah"):
        needles = re.findall(r"special magic (number|uuid)s? for (\S+) is: ([0-9a-f-]+)\.", text)
        (asked,) = re.findall(r" for (\S+) ", sample["gen_prefix"])
        return (
            len(needles) == 1 if task == "niah_single_1" else len(needles) > 30,
            len(set(needles)) == len(needles),
            [value for _, key, value in needles if key == asked] == answers,
            {(kind, len(value)) for kind, _, value in needles},
            sample["gen_prefix"].split()[-1],
        )
    if task == "vt":
        chain = re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)", text)
        example = re.findall(r"VAR ([A-Z]{3}) = (?:VAR )?(\w+)\b", text)
        return [
            (
                len(part),
                [source for _, source in part[1:]] == [name for name, _ in part[:-1]],
                len(part[0][1]),
            )
            for part in (chain, example)
        ]
    if task == "cwe":
        (line,) = [line for line in text.splitlines() if line.startswith("1. ")][-1:]
        counts = Counter(re.findall(r"\d+\. (.+?)(?= \d+\. |$)", line))  # some of their words have blanks
        return sorted({counts[word] for word in answers}), sorted(
            {count for word, count in counts.items() if word not in answers}
        )
    counts = Counter(re.findall(r"(?<= )(?:[a-z]{6}|\.\.\.)(?= )", text.replace("\n", "  ")))
    ranked = ["...", *answers]
    sizes = [counts[word] * k * k * pi**2 / 6 for k, word in enumerate(ranked, 1)]
    return all(abs(size - sizes[0]) < 1.7 * k * k for k, size in enumerate(sizes, 1))


EXPECTED = {
    "niah_single_1": (True, True, True, {("number", 7)}, "is"),
    "niah_multikey_2": (True, True, True, {("number", 7)}, "is"),
    "niah_multikey_3": (True, True, True, {("uuid", 36)}, "is"),
    "vt": [(5, True, 5), (5, True, 5)],
    "cwe": ([30], [3]),
    "fwe": True,
}


@pytest.mark.parametrize("task", EXPECTED)
def test_generators_hide_and_count_the_same(task: str, peer: Any) -> None:
    for made_samples in (ours(task, LENGTH), theirs(peer, task, LENGTH)):
        assert len(made_samples) == COUNT
        assert all(measure(task, sample) == EXPECTED[task] for sample in made_samples)


def test_short_lists_of_words_repeat_them_less_in_both(peer: Any) -> None:
    for made_samples in (ours("cwe", 2048), theirs(peer, "cwe", 2048)):
        assert all(measure("cwe", sample) == ([6], [1]) for sample in made_samples)


@pytest.mark.parametrize("task", EXPECTED)
def test_ours_come_nearer_to_the_length(task: str, peer: Any) -> None:
    """lm-eval grows a sample in large steps, from the first sample's size."""

    def unfilled(sample: dict[str, Any]) -> int:
        text = f"{sample['input']} {sample['gen_prefix']}"
        return LENGTH - TASKS[task].answer_tokens - len(made(gpt2)(text)["input_ids"])

    left_by_us = [unfilled(sample) - RESERVED for sample in ours(task, LENGTH)]
    left_by_them = [unfilled(sample) for sample in theirs(peer, task, LENGTH)]
    assert all(0 <= left <= 120 for left in left_by_us)
    assert sum(left_by_us) <= sum(map(abs, left_by_them))


@pytest.mark.parametrize("task", TASKS)
def test_room_for_answers(task: str) -> None:
    file = {"qa_1": "qa_squad"}.get(task, task)
    text = (Path(lm_eval.tasks.__file__).parent / "ruler" / f"{file}.yaml").read_text()
    if "max_gen_toks" not in text:  # included from the first task
        text = (Path(lm_eval.tasks.__file__).parent / "ruler" / "niah_single_1.yaml").read_text()
    settings = yaml.safe_load(re.sub(r"!function \S+", "null", text))["generation_kwargs"]
    assert settings["max_gen_toks"] == TASKS[task].answer_tokens


@pytest.mark.parametrize("task", TASKS)
def test_the_same_outputs_get_the_same_scores(task: str, peer: Any) -> None:
    """Right, half-right, wrong and disfigured outputs. lm-eval gives a question with several accepted answers the share
    that was named; RULER counts it once one is."""
    draw = random.Random(3)
    seen = set()
    for sample in samples(task, made(gpt2), 3000, 40):
        parts = [answer for answer in sample.answers if draw.random() < 0.6]
        parts += draw.choices(sample.prompt.split(), k=5)
        draw.shuffle(parts)
        output = draw.choice([" ", "\n", "\x00", ", "]).join(parts)
        output = draw.choice([str.upper, str.lower, str.title, str.strip])(output)
        doc = {"outputs": list(sample.answers), "max_length": 3000}
        score_of = peer.common.process_results_part if task == "qa_1" else peer.common.process_results
        expected = score_of(doc, [output])["3000"]
        assert score(task, output, sample.answers) == pytest.approx(expected)
        seen.add(round(expected, 3))
    assert len(seen) > 1

    several = {"outputs": ["Rhine", "the Rhine river"], "max_length": 3000}
    assert peer.common.process_results_part(several, ["Rhine"])["3000"] == 0.5
    assert score("qa_1", "Rhine", several["outputs"]) == 1
