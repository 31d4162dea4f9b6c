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
    "events": [["4", "garden lunch", "Mon"], ["9", "team talk", "Tue"]],
    "messages": [["2", "from", "Ana", "lamp is lost"]],
    "tasks": [["1", "paint lamp", "Ben", "open"]],
    "customers": [["3", "Red Lamp", "Dan", "lead"], ["8", "Old Fox", "Ida", "won"]],
}


@pytest.fixture
def desk() -> ToolSession:
    return new_session(new_tables(STATE))


def judged(gold: list[dict[str, Any]], *made: dict[str, Any]) -> Grade:
    return grade({"name": "desk", "state": STATE, "calls": gold}, answer(made))


@pytest.mark.parametrize(
    ("name", "arguments", "said", "table", "row"),
    [
        ("plan", {"name": "tea", "day": "Fri"}, "10", "events", ("10", "tea", "Fri")),
        ("move", {"id": "4", "day": "Fri"}, "ok", "events", ("4", "garden lunch", "Fri")),
        ("task", {"name": "cut tree", "person": "Ida"}, "10", "tasks", ("10", "cut tree", "Ida", "open")),
        ("assign", {"id": "1", "person": "Ida"}, "ok", "tasks", ("1", "paint lamp", "Ida", "open")),
        ("assign", {"id": "3", "person": "Ida"}, "ok", "customers", ("3", "Red Lamp", "Ida", "lead")),
        ("mark", {"id": "1", "status": "done"}, "ok", "tasks", ("1", "paint lamp", "Ben", "done")),
        ("mark", {"id": "3", "status": "lost"}, "ok", "customers", ("3", "Red Lamp", "Dan", "lost")),
        ("send", {"person": "Ben", "text": "yes"}, "10", "messages", ("10", "to", "Ben", "yes")),
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
        == "2 from Ana lamp is lost; 1 paint lamp Ben open; 3 Red Lamp Dan lead"
    )
    assert desk.call("find", {"text": "a"}).count(";") == 2
    assert desk.call("find", {"text": "sun"}) == "nothing"
    assert desk.call("find", {"text": "4"}) == "nothing"  # ids are not looked through
    for key in ("4", "2", "1", "3"):
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
        ("move", {"id": "5", "day": "Fri"}, "no such id"),
        ("move", {"id": "1", "day": "Fri"}, "1 has no day"),
        ("move", {"id": "4", "day": "fri"}, "day must be one of Mon"),
        ("move", {"id": "4"}, "day is missing"),
        ("mark", {"id": "1", "status": "won"}, "status must be one of open, done"),
        ("mark", {"id": "4", "status": "done"}, "4 has no status"),
        ("assign", {"id": "2", "person": "Ana"}, "a message has no owner"),
        ("assign", {"id": "1", "person": "Zoe"}, "person must be one of Ana"),
        ("send", {"person": "Ana", "text": ""}, "text is missing"),
        ("plan", {"name": "x", "day": "Mon", "person": "Ana"}, "plan has no argument 'person'"),
        ("drop", {"id": ["4"]}, "id must be a text"),
        ("delete", {"id": "4"}, "There is no tool 'delete'"),
    ],
)
def test_a_call_that_fails_says_why_and_changes_nothing(
    desk: ToolSession, name: str, arguments: dict[str, Any], said: str
) -> None:
    assert said in desk.call(name, arguments)
    assert desk.tables.same(new_tables(STATE))


def test_it_is_judged_by_its_state() -> None:
    move, send = call("move", id="4", day="Fri"), call("send", person="Ana", text="Yes")
    assert judged([move, send], move, send).score == 1
    assert judged([move, send], send, call("find", text="x"), call("drop", id="5"), move).score == 1
    assert judged([move], move, move).score == 1
    assert judged([send], call("send", person="Ana", text="yes")).score == 1
    for wrong in ([], [move], [send], [move, send, send], [call("move", id="9", day="Fri"), send]):
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


def test_ids_are_handles_and_order_counts_within_a_table_alone() -> None:
    plan, send = call("plan", name="tea", day="Mon"), call("send", person="Ana", text="yes")
    drop = call("drop", id="9")  # the largest id, so that the next one is another
    for made in ([plan, send, drop], [send, plan, drop], [drop, send, plan]):
        assert judged([plan, send, drop], *made).score == 1
    other = call("plan", name="walk", day="Tue")
    assert judged([plan, other], other, plan).score == 0


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"rooms": []}, "no table 'rooms'"),
        ({"events": [["4", "lunch"]]}, "state.events.0: 2 values"),
        ({"events": [["", "lunch", "Mon"]]}, "the id ''"),
        ({"events": [["4 5", "lunch", "Mon"]]}, "the id '4 5'"),
        ({"events": [["4\x00", "lunch", "Mon"]]}, "the id"),
        ({"events": [["4", "lunch", "Sunday"]]}, "day is 'Sunday'"),
        ({"tasks": [["4", "x", "Ana", "won"]]}, "status is 'won'"),
        ({"events": [["4", "a", "Mon"], ["4", "b", "Mon"]]}, "two rows have the id '4'"),
        ({"events": [["4", "a", "Mon"]], "tasks": [["4", "b", "Ana", "open"]]}, "two rows have the id '4'"),
        ({"events": [["4", 1, "Mon"]]}, "state.events.0.1"),
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
        (call("drop", id="5"), "no such id"),
        (call("fly"), "no tool"),
    ):
        with pytest.raises(ArtifactError, match=words):
            validate_spec({"name": "desk", "state": STATE, "calls": [gold]})


def test_each_session_has_the_state_of_its_line() -> None:
    line = {"name": "desk", "state": STATE, "calls": []}
    first, second = open_session(line), open_session(line)
    assert first is not None
    assert second is not None
    assert first.call("drop", {"id": "4"}) == "ok"
    assert second.call("find", {"text": "garden"}) == "4 garden lunch Mon"
    empty = open_session({"name": "desk", "state": {}, "calls": []})
    assert empty is not None
    assert empty.call("plan", {"name": "tea", "day": "Mon"}) == "1"


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
        "4",
        "9" * 5000,
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
