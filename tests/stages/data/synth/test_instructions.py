import re
from collections import Counter

import pytest

from evals.graders.grade import grade_text
from evals.graders.instructions.registry import INSTRUCTIONS
from stages.data.synth.catalog import FAMILIES
from stages.data.synth.dice import Dice
from stages.data.synth.instructions import prompts, topics
from stages.data.synth.instructions.demand import capitals_in, compatible, sentences_in, words_in
from stages.data.synth.instructions.demands import DEMANDS
from stages.data.synth.instructions.languages import SENTENCES
from stages.data.synth.problem import Style

FAMILY_NAMES = [family.name for family in FAMILIES.values() if family.kind == "instructions"]


def test_all_kinds_of_the_grader_are_covered() -> None:
    assert {demand.id for demand in DEMANDS.values()} == set(INSTRUCTIONS)
    assert {demand.family for demand in DEMANDS.values()} == set(FAMILY_NAMES)
    slots = set().union(*(demand.slots for demand in DEMANDS.values()))
    assert slots - set(DEMANDS) == {
        "layout",
        "size",
        "case",
        "ending",
    }  # the rest are names, none of them misspelt


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_answers_follow_their_instructions_strictly(family: str) -> None:
    seen: Counter[str] = Counter()
    for level in range(1, prompts.MAX_LEVEL + 1):
        dice = Dice("test", family, level)
        for number in range(60):
            problem = prompts.draw(family, level, dice)
            sample = problem.write(
                dice, Style(("short", "long", "checked")[number % 3], held_out=number % 2 == 1)
            )
            prompt, answer = sample.messages
            verdict = grade_text(sample.grader, answer["content"])
            assert verdict.parts["prompt_strict"] == 1, (prompt["content"], answer["content"], verdict.detail)
            assert len(problem.demands) == max(1, level - 1)
            assert "{" not in prompt["content"]
            seen.update(name for name, _ in problem.demands)
    assert {demand.name for demand in DEMANDS.values() if demand.family == family} <= set(seen)


def test_an_answer_to_something_else_is_not_accepted() -> None:
    """The demands are real: a remark about the weather meets few of them."""
    dice, followed, count = Dice("plain"), 0, 0
    for family in FAMILY_NAMES:
        for _ in range(60):
            sample = prompts.draw(family, 3, dice).write(dice, Style())
            followed += grade_text(sample.grader, "The weather is nice today, and I like it.").score == 1
            count += 1
    assert followed / count < 0.05


def test_figures_in_the_reasoning_are_those_of_the_answer() -> None:
    dice = Dice("figures")
    found: Counter[str] = Counter()
    for _ in range(400):
        problem = prompts.draw("length", 2, dice)
        sample = problem.write(dice, Style())
        reasoning, answer = (sample.messages[-1][key] for key in ("reasoning_content", "content"))
        if match := re.search(r"words: .* asked, (\d+) in", reasoning):
            assert int(match[1]) == len(re.findall(r"\w+", answer))
            found["words"] += 1
        if match := re.search(r"sentences: .* asked, (\d+) in", reasoning):
            assert int(match[1]) == len(re.findall(r"[.?](?: |$)", answer))
            found["sentences"] += 1
    assert min(found["words"], found["sentences"]) > 50


def test_counts() -> None:
    text = "Here is *one*. Is THIS two? Yes. A line\nwith [name] and P.S. marks."
    assert words_in("It is 3 o'clock") == 5
    assert sentences_in("Here is *one.* Is it two? Yes.") == 3
    assert capitals_in(text) == 4  # THIS, A, P and S


def test_sentences_have_no_side_effects() -> None:
    """No comma, digit, quotation mark or second capital; keywords and avoidable words are not in what is added."""
    texts = [*(text for group in topics.TOPICS.values() for text in group), *topics.MORE]
    assert all(re.fullmatch(r"[A-Z][a-z {}]*\.", text) for text in texts)
    added = [
        *topics.KEYWORD_SENTENCES,
        *topics.PLACEHOLDER_SENTENCES,
        *topics.END_PHRASES,
        topics.FIRST_WORD_SENTENCE,
    ]
    added += ["Section Part Chapter All about P.S. I will write more about it soon.", *topics.FIRST_WORDS]
    added += [task.opening for task in prompts.TASKS.values()]
    everything = " ".join([*texts, *added, *topics.TOPICS]).lower()
    assert [word for word in topics.KEYWORDS if word in everything] == []
    assert [word for word in topics.AVOIDABLE if re.search(rf"\b{word}\b", " ".join(added).lower())] == []
    requests = [
        text for task in prompts.TASKS.values() for text in task.wordings.trained + task.wordings.held_out
    ]
    assert all("," not in text for text in [*added, *requests, *prompts.READERS])
    foreign = [text for group in SENTENCES.values() for texts in group.values() for text in texts]
    assert all("," not in text and not re.search(r"\d", text) for text in foreign)


def test_demands_that_exclude_each_other() -> None:
    for pair in (
        ("upper", "lower"),
        ("json", "title"),
        ("bullets", "sections"),
        ("words", "sentences"),
        ("repeat", "json"),
    ):
        first, second = (DEMANDS[name] for name in pair)
        assert not compatible(first, second)
        assert not compatible(second, first)
    assert compatible(DEMANDS["title"], DEMANDS["bullets"])
    assert not compatible(DEMANDS["title"], DEMANDS["title"])
