"""Errands at the desk: the reference episode reaches the state that is wanted, which is stated apart from it."""

import copy
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from evals.chat_lines import parse_sample
from evals.environments.desk.tools import TOOLS, signatures
from evals.episodes.task import Task
from evals.graders.grade import grade
from model.chat.events import ParsedMessage
from model.chat.template import render
from model.chat.tool_calls import ToolCall
from stages.data.synth.catalog import FAMILIES
from stages.data.synth.config import SynthConfig
from stages.data.synth.desk import episode
from stages.data.synth.desk.episode import LEVELS
from stages.data.synth.desk.errand import Errand
from stages.data.synth.dice import Dice
from stages.data.synth.drawing import sources
from stages.data.synth.problem import Sample, Style, row
from stages.data.synth.verification import verify

ERRANDS = [errand for level in LEVELS for errand in level]


def samples(level: int, count: int, *, held_out: bool = False) -> list[tuple[episode.DeskProblem, Sample]]:
    dice = Dice("test desk", level)
    problems = [episode.draw(level, dice) for _ in range(count)]
    return [(problem, problem.write(dice, Style(held_out=held_out))) for problem in problems]


def line(problem: episode.DeskProblem, sample: Sample, *, thinking: bool = True) -> dict[str, Any]:
    family = FAMILIES["desk"]
    return row(family, family.identity(problem), sample, thinking=thinking, facts={})


def judged(grader: dict[str, Any], calls: list[dict[str, Any]]) -> float:
    made = [ToolCall(i, item["name"], json.dumps(item["arguments"])) for i, item in enumerate(calls)]
    return grade(grader, ParsedMessage("", "Done.", tuple(made), ())).score


@pytest.mark.parametrize("level", range(1, episode.MAX_LEVEL + 1))
def test_references_are_right_and_say_what_the_tools_say(level: int) -> None:
    """`write` itself compares the state of the episode with the one that `apply` makes."""
    seen = Counter[str]()
    for problem, sample in samples(level, 150):
        verify(line(problem, sample))
        seen[type(problem.errand).__name__] += 1
        assert all(
            message["reasoning_content"] for message in sample.messages if message["role"] == "assistant"
        )
        used = {
            item["function"]["name"] for message in sample.messages for item in message.get("tool_calls", ())
        }
        assert sample.messages[0]["content"] == f"Tools: {signatures(problem.errand.tools)}."
        assert used <= set(problem.errand.tools) <= set(TOOLS)
    assert set(seen) == {errand.__name__ for errand in LEVELS[level - 1]}


@pytest.mark.parametrize("level", range(1, episode.MAX_LEVEL + 1))
def test_other_calls_than_the_reference_are_wrong(level: int) -> None:
    unchanged = 0
    for _, sample in samples(level, 100):
        grader = sample.grader
        gold = grader["calls"]
        assert judged(grader, gold) == 1
        unchanged += not gold
        assert judged(grader, [*gold, {"name": "send", "arguments": {"person": "Ana", "text": "x"}}]) == 0
        for at in range(len(gold)):
            assert judged(grader, [*gold[:at], *gold[at + 1 :]]) == 0
        for item in gold:
            if "id" in item["arguments"]:
                for other in (row[0] for rows in grader["state"].values() for row in rows):
                    changed = {"name": item["name"], "arguments": {**item["arguments"], "id": other}}
                    right = other == item["arguments"]["id"]
                    assert judged(grader, [changed if each is item else each for each in gold]) == float(
                        right
                    )
    assert (unchanged > 5) == (level == 3)  # conditions that do not hold


def test_a_script_that_comes_to_another_state_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem, _), *_ = samples(2, 1)
    monkeypatch.setattr(type(problem.errand), "apply", lambda self, desk: None)
    with pytest.raises(AssertionError, match="another state"):
        problem.write(Dice("x"), Style())


def test_a_row_whose_tool_results_are_not_the_environments_is_an_error() -> None:
    problem, sample = samples(2, 1)[0]
    changed = copy.deepcopy(line(problem, sample))
    changed["messages"][3]["content"] += " x"
    with pytest.raises(AssertionError, match="answer otherwise"):
        verify(changed)


@pytest.mark.parametrize("errand", ERRANDS, ids=lambda errand: errand.__name__)
def test_held_out_wordings_are_others_and_name_what_is_needed(errand: type[Errand]) -> None:
    trained, held_out = set(errand.wordings.trained), set(errand.wordings.held_out)
    assert trained
    assert held_out
    assert not trained & held_out
    wish = errand.draw(Dice("wordings", errand.__name__))
    for wording in trained | held_out:
        text = wording.format(**wish.parameters)
        assert "{" not in text
        assert wish.names[0] in text or all(word in text for word in wish.parameters.values())


def test_an_episode_is_asked_from_its_first_turn() -> None:
    for problem, sample in samples(3, 20):
        task = Task.of(parse_sample(line(problem, sample), "x"))
        assert [message["role"] for message in task.messages] == ["system", "user"]
        assert task.thinking is True
    without = Task.of(parse_sample(line(problem, sample, thinking=False), "x"))
    assert without.thinking is False


def test_dialogues_are_short(tokenizer_directory: Path) -> None:
    """As rendered. The demo's tokenizer takes some 3.5 characters a token."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_directory)
    longest = [
        max(
            len(render(tokenizer, sample.messages, thinking=True))
            for _, sample in samples(level, 60, held_out=True)
        )
        for level in (1, 2, 3)
    ]
    assert all(length < limit for length, limit in zip(longest, (500, 750, 900), strict=True)), longest


def test_it_is_drawn_only_if_asked_for() -> None:
    def families(**settings: Any) -> set[str]:
        return {source.family.name for source in sources(SynthConfig(**settings))}

    assert "desk" not in families()
    assert families(kinds={"desk": 1}) == {"desk"}
    assert families(families=["desk:2"]) == {"desk"}
    assert families(families=["desk:2", "sums"]) == {"desk", "sums"}
    assert "desk" in families(kinds={"desk": 1, "tools": 1})


def test_a_flawed_demonstration_claims_what_its_grader_refuses() -> None:
    dice = Dice("flawed")
    for level in (1, 2, 3):
        for _ in range(20):
            problem = episode.draw(level, dice)
            sample = problem.write(dice, Style(flawed=True))
            said = [message["role"] for message in sample.messages]
            if not sample.metadata["changes"]:  # nothing was to be done
                assert not sample.metadata.get("flawed")
                continue
            assert said == ["system", "user", "assistant"]
            assert sample.messages[-1]["content"] == "Done."
            assert judged(sample.grader, []) < 1
            verify(line(problem, sample))
            with pytest.raises(AssertionError, match="gives the reference answer"):
                verify(line(problem, dataclasses.replace(sample, metadata={})))
