"""The desk: its eight tools, its grader, and what a model may make up."""

import json
from random import Random
from typing import Any

import pytest

from evals.environments.desk.tools import SHAPES, TOOLS, new_session, new_tables, signatures
from evals.environments.session import open_session
from evals.environments.tools import ToolSession
from evals.graders.grade import Grade, grade, validate_spec
from model.errors import ArtifactError
from tests.evals.environments.calls import answer, call

STATE = {
    "events": [["e4", "garden lunch", "Mon"], ["e9", "team talk", "Tue"]],
    "messages": [["m2", "from", "Ana", "lamp is lost"]],
    "tasks": [["t1", "paint lamp", "Ben", "open"]],
    "customers": [["c3", "Red Lamp", "Dan", "lead"], ["c8", "Old Fox", "Ida", "won"]],
}


@pytest.fixture
def desk() -> ToolSession:
    return new_session(new_tables(STATE))


def judged(gold: list[dict[str, Any]], *made: dict[str, Any]) -> Grade:
    return grade({"name": "desk", "state": STATE, "calls": gold}, answer(made))


@pytest.mark.parametrize(
    ("name", "arguments", "said", "table", "row"),
    [
        ("plan", {"name": "tea", "day": "Fri"}, "e10", "events", ("e10", "tea", "Fri")),
        ("move", {"id": "e4", "day": "Fri"}, "ok", "events", ("e4", "garden lunch", "Fri")),
        ("task", {"name": "cut tree", "person": "Ida"}, "t2", "tasks", ("t2", "cut tree", "Ida", "open")),
        ("assign", {"id": "t1", "person": "Ida"}, "ok", "tasks", ("t1", "paint lamp", "Ida", "open")),
        ("assign", {"id": "c3", "person": "Ida"}, "ok", "customers", ("c3", "Red Lamp", "Ida", "lead")),
        ("mark", {"id": "t1", "status": "done"}, "ok", "tasks", ("t1", "paint lamp", "Ben", "done")),
        ("mark", {"id": "c3", "status": "lost"}, "ok", "customers", ("c3", "Red Lamp", "Dan", "lost")),
        ("send", {"person": "Ben", "text": "yes"}, "m3", "messages", ("m3", "to", "Ben", "yes")),
    ],
)
def test_changing_tools(
    desk: ToolSession, name: str, arguments: dict[str, str], said: str, table: str, row: tuple[str, ...]
) -> None:
    assert desk.call(name, arguments) == said
    assert row in desk.tables.rows(table)
    for other in SHAPES.keys() - {table}:
        assert desk.tables.rows(other) == new_tables(STATE).rows(other)


def test_rows_are_found_in_all_tables_three_at_most_and_dropped(desk: ToolSession) -> None:
    assert (
        desk.call("find", {"text": "LAMP"})
        == "m2 from Ana lamp is lost; t1 paint lamp Ben open; c3 Red Lamp Dan lead"
    )
    assert desk.call("find", {"text": "a"}).count(";") == 2
    assert desk.call("find", {"text": "sun"}) == "nothing"
    assert desk.call("find", {"text": "e4"}) == "nothing"  # ids are not looked through
    for key in ("e4", "m2", "t1", "c3"):
        assert desk.call("drop", {"id": key}) == "ok"
        assert desk.call("drop", {"id": key}) == "no such id"
    assert {name: len(desk.tables.rows(name)) for name in SHAPES} == {
        "events": 1,
        "messages": 0,
        "tasks": 0,
        "customers": 1,
    }


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("move", {"id": "e5", "day": "Fri"}, "no such id"),
        ("move", {"id": "t1", "day": "Fri"}, "t1 has no day"),
        ("move", {"id": "e4", "day": "fri"}, "day must be one of Mon"),
        ("move", {"id": "e4"}, "day is missing"),
        ("mark", {"id": "t1", "status": "won"}, "status must be one of open, done"),
        ("mark", {"id": "e4", "status": "done"}, "e4 has no status"),
        ("assign", {"id": "m2", "person": "Ana"}, "a message has no owner"),
        ("assign", {"id": "t1", "person": "Zoe"}, "person must be one of Ana"),
        ("send", {"person": "Ana", "text": ""}, "text is missing"),
        ("plan", {"name": "x", "day": "Mon", "person": "Ana"}, "plan has no argument 'person'"),
        ("drop", {"id": ["e4"]}, "id must be a text"),
        ("delete", {"id": "e4"}, "There is no tool 'delete'"),
    ],
)
def test_a_call_that_fails_says_why_and_changes_nothing(
    desk: ToolSession, name: str, arguments: dict[str, Any], said: str
) -> None:
    assert said in desk.call(name, arguments)
    assert desk.tables.same(new_tables(STATE))


def test_it_is_judged_by_its_state() -> None:
    move, send = call("move", id="e4", day="Fri"), call("send", person="Ana", text="Yes")
    assert judged([move, send], move, send).score == 1
    assert judged([move, send], send, call("find", text="x"), call("drop", id="e5"), move).score == 1
    assert judged([move], move, move).score == 1
    assert judged([send], call("send", person="Ana", text="yes")).score == 1
    for wrong in ([], [move], [send], [move, send, send], [call("move", id="e9", day="Fri"), send]):
        assert judged([move, send], *wrong).score == 0
    assert judged([], call("find", text="x")).parts == {
        "format": 1,
        "state": 1,
        "no_side_effects": 1,
        "exact": 1,
    }
    assert judged([], move).parts == {"format": 1, "state": 0, "no_side_effects": 0, "exact": 0}
    assert judged([move]).parts == {"format": 1, "state": 0, "no_side_effects": 1, "exact": 0}
    assert judged([move]).detail == "nothing was changed"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"rooms": []}, "no table 'rooms'"),
        ({"events": [["e4", "lunch"]]}, "state.events.0: 2 values"),
        ({"events": [["4", "lunch", "Mon"]]}, "the id '4'"),
        ({"events": [["e٣", "lunch", "Mon"]]}, "the id"),
        ({"events": [["e4", "lunch", "Sunday"]]}, "day is 'Sunday'"),
        ({"tasks": [["t4", "x", "Ana", "won"]]}, "status is 'won'"),
        ({"events": [["e4", "a", "Mon"], ["e4", "b", "Mon"]]}, "two rows have one id"),
        ({"events": [["e4", 1, "Mon"]]}, "state.events.0.1"),
        ({"events": None}, "state.events"),
        ([], "state"),
    ],
)
def test_a_state_that_cannot_be_is_refused(state: Any, words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        validate_spec({"name": "desk", "state": state, "calls": []})


def test_gold_calls_that_cannot_be_made_are_refused() -> None:
    for gold, words in (
        (call("find", text="x"), "changes nothing"),
        (call("drop", id="e5"), "no such id"),
        (call("fly"), "no tool"),
    ):
        with pytest.raises(ArtifactError, match=words):
            validate_spec({"name": "desk", "state": STATE, "calls": [gold]})


def test_each_session_has_the_state_of_its_line() -> None:
    line = {"name": "desk", "state": STATE, "calls": []}
    first, second = open_session(line), open_session(line)
    assert first is not None
    assert second is not None
    assert first.call("drop", {"id": "e4"}) == "ok"
    assert second.call("find", {"text": "garden"}) == "e4 garden lunch Mon"
    empty = open_session({"name": "desk", "state": {}, "calls": []})
    assert empty is not None
    assert empty.call("plan", {"name": "tea", "day": "Mon"}) == "e1"


def test_what_a_model_makes_up_never_raises() -> None:
    values = [
        None,
        1,
        1.5,
        True,
        "",
        "\x00",
        "\ud800",
        "x" * 99_999,
        "e4",
        "e" + "9" * 5000,
        "Mon",
        "Ana",
        [],
        {"a": [{}]},
    ]
    random, session, made = Random(0), open_session({"name": "desk", "state": STATE, "calls": []}), []
    assert session is not None
    for name in [*TOOLS, "", "\ud800", "x" * 9999] * 60:
        keys = [*(TOOLS[name].arguments if name in TOOLS else ()), "x", "\ud800"]
        arguments = {key: random.choice(values) for key in random.sample(keys, random.randint(0, len(keys)))}
        session.call(name, arguments).encode()
        made.append({"name": name, "arguments": arguments})
    assert json.dumps(judged([], *made).parts)


def test_a_model_is_told_of_tools_in_few_words() -> None:
    assert signatures(["find", "move"]) == "find(text), move(id, day)"
    assert {name for name, tool in TOOLS.items() if not tool.changes} == {"find"}
