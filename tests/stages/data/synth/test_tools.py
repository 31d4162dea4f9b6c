import copy
import json
from typing import Any

import pytest

from evals.graders.grade import grade
from model.chat.events import ParsedMessage
from model.chat.tool_calls import ToolCall
from stages.data.synth.catalog import FAMILIES
from stages.data.synth.dice import Dice
from stages.data.synth.problem import Sample, Style
from stages.data.synth.tools import contacts, dialogue, library, stock, timetable, todo
from stages.data.synth.tools.dialogue import DialogueProblem
from stages.data.synth.tools.errand import Act, Ask, Errand
from stages.data.synth.tools.service import Service, check_service

SERVICES: dict[str, tuple[type[Service], tuple[type[Errand], ...]]] = {
    "library": (library.Library, library.ERRANDS),
    "todo": (todo.Todo, todo.ERRANDS),
    "stock": (stock.Stock, stock.ERRANDS),
    "timetable": (timetable.Timetable, timetable.ERRANDS),
    "contacts": (contacts.Contacts, contacts.ERRANDS),
}
ERRANDS = [(service, errand) for service, errands in SERVICES.values() for errand in errands]


def samples(
    name: str, level: int, count: int, error_rate: float = 0.0
) -> list[tuple[DialogueProblem, Sample | None]]:
    dice = Dice("test", name, level)
    found = []
    for number in range(count):
        problem = dialogue.draw(name, *SERVICES[name], level, dice)
        style = Style(("short", "long", "checked")[number % 3], number % 2 == 1, error_rate)
        found.append((problem, problem.write(dice, style)))
    return found


def _answer(message: dict[str, Any]) -> ParsedMessage:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    made = [ToolCall(index, call["name"], call["arguments"]) for index, call in enumerate(calls)]
    return ParsedMessage("", message["content"], tuple(made), ())


def test_the_services_are_the_catalogs() -> None:
    assert [family.name for family in FAMILIES.values() if family.kind == "tools"] == list(SERVICES)
    for service, _ in SERVICES.values():
        check_service(service)
        assert all(schema["function"]["parameters"]["required"] for schema in service.schemas())


@pytest.mark.parametrize(("service", "errand"), ERRANDS, ids=lambda item: item.__name__)
def test_calls_and_edits_come_to_the_same_state(service: type[Service], errand: type[Errand]) -> None:
    """The script's calls change the state just as `apply` does, and without any other call it is not reached."""
    dice = Dice("errand", errand.__name__)
    for _ in range(30):
        wish, state = errand.draw(dice), service.new(dice)
        wish.prepare(state, dice)
        service.furnish(state, dice)
        before, wanted = copy.deepcopy(state), copy.deepcopy(state)
        wish.apply(wanted)
        live, script = service(state), wish.script()
        step = next(script)
        while True:
            results = [live.call(*call) for call in step.calls] if isinstance(step, Act) else None
            assert isinstance(step, Act | Ask)
            try:
                step = script.send(results)
            except StopIteration as stop:
                report = stop.value
                break
        assert state == wanted
        assert report.facts == wish.facts()
        assert all(fact in report.content for fact in report.facts)
        assert (before == wanted) == (errand.apply is Errand.apply)


@pytest.mark.parametrize("name", SERVICES)
def test_without_slips_no_dialogue_is_thrown_away(name: str) -> None:
    for level in range(1, dialogue.MAX_LEVEL + 1):
        for problem, sample in samples(name, level, 40):
            assert sample is not None, problem
            assert sample.metadata["slips"] == 0
            assert grade(sample.grader, _answer(sample.messages[-1])).score == 1
            assert [message["role"] for message in sample.messages[:2]] == ["system", "user"]
            assert all(
                message["reasoning_content"] for message in sample.messages if message["role"] == "assistant"
            )


@pytest.mark.parametrize("name", SERVICES)
def test_with_slips_some_dialogues_fail_and_some_recover(name: str) -> None:
    kept = [(problem, sample) for problem, sample in samples(name, 3, 200, error_rate=0.3) if sample]
    thrown = 200 - len(kept)
    assert 20 < thrown < 180
    assert sum(sample.metadata["slips"] > 0 for _, sample in kept) > 20
    for problem, sample in kept:
        assert grade(sample.grader, _answer(sample.messages[-1])).score == 1
        if sample.metadata["ends_in"] == "call":
            assert problem.errands


def test_a_kept_dialogue_that_is_played_again_ends_in_the_state_that_was_wanted() -> None:
    """The tool results in a row are those of the calls in it, slips included."""
    replayed = 0
    for problem, sample in samples("stock", 4, 150, error_rate=0.3):
        if sample is None:
            continue
        live = stock.Stock({"items": {errand.item: errand.there for errand in problem.errands}, "orders": []})  # type: ignore[attr-defined]
        answers = iter(message["content"] for message in sample.messages if message["role"] == "tool")
        last = sample.messages[-1]
        for message in sample.messages:
            for call in message.get("tool_calls", ()):
                result = live.call(call["function"]["name"], json.loads(call["function"]["arguments"]))
                if message is not last:
                    assert json.loads(next(answers)) == result
                    replayed += 1
        if last.get("tool_calls") or sample.metadata["errands"][-1] == "Outside" or "?" in last["content"]:
            continue
        wanted = {"items": {errand.item: errand.there for errand in problem.errands}, "orders": []}  # type: ignore[attr-defined]
        for errand in problem.errands:
            errand.apply(wanted)
        assert live.state == wanted
    assert replayed > 300


def test_every_trait_of_a_dialogue_occurs() -> None:
    calls_at_once = errors = questions = outside = ends_in_call = 0
    for name in SERVICES:
        for problem, sample in samples(name, 4, 80, error_rate=0.1):
            if sample is None:
                continue
            calls_at_once += any(len(message.get("tool_calls", ())) > 1 for message in sample.messages)
            errors += any(
                message["role"] == "tool" and "error" in message["content"] for message in sample.messages
            )
            questions += any(problem.vague)
            outside += bool(problem.outside)
            ends_in_call += sample.metadata["ends_in"] == "call"
    assert min(calls_at_once, errors, questions, outside, ends_in_call) > 10


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("take", {}, "there is no tool take"),
        ("take_items", {"item": "red box"}, "the argument quantity is missing"),
        ("take_items", {"item": "red box", "quantity": 1, "x": 1}, "take_items has no argument x"),
        ("take_items", {"item": "red box", "quantity": "1"}, "'1' is no value for quantity"),
        ("take_items", {"item": "red box", "quantity": True}, "True is no value for quantity"),
        ("take_items", {"item": "red box", "quantity": 0}, "the quantity must be at least 1"),
        ("take_items", {"item": "red box", "quantity": 4}, "only 3 of red box are there"),
        ("order_items", {"item": "blue box", "quantity": 4}, "blue box is not kept here"),
    ],
)
def test_a_refused_call_says_why_and_changes_nothing(
    name: str, arguments: dict[str, Any], error: str
) -> None:
    service = stock.Stock({"items": {"red box": 3}, "orders": []})
    assert service.call(name, arguments) == {"error": error}
    assert service.state == {"items": {"red box": 3}, "orders": []}


def test_a_choice_is_checked() -> None:
    service = todo.Todo({"tasks": {}, "next": 1})
    assert service.call("list_tasks", {"list": "garden"}) == {"error": "'garden' is no value for list"}
