"""Judging by outcome: every gold answer is right, perturbed ones are wrong, and what does not matter does not matter."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evals.chat_lines import read_chat
from evals.environments.session import open_session
from evals.environments.tables import next_number
from evals.environments.tools import ToolSession
from evals.environments.workbench import state
from evals.environments.workbench import tasks as workbench_tasks
from evals.environments.workbench.state import DATA, SHAPES, fresh_tables
from evals.environments.workbench.tools import tools
from evals.graders.grade import Grade, grade, validate_spec
from model.errors import ArtifactError
from model.text_lines import json_lines
from tests.evals.environments.calls import Call, answer, call

Calls = list[dict[str, Any]]

APPENDING = (
    "create_event",
    "create_plot",
    "create_task",
    "add_customer",
    "send_email",
    "reply_email",
    "forward_email",
)


@cache
def tasks() -> list[dict[str, Any]]:
    return workbench_tasks.read_tasks()


def judged(gold: Calls, made: Calls, **settings: Any) -> Grade:
    return grade({"name": "workbench", "calls": gold}, answer(made, **settings))


def appends(item: Call) -> bool:
    return item["name"].partition(".")[2] in APPENDING


def test_every_gold_answer_is_right() -> None:
    assert len(tasks()) == 447
    for task in tasks():
        verdict = judged(task["answer_calls"], task["answer_calls"])
        assert verdict.score == 1, task["id"]
        assert set(verdict.parts.values()) == {1.0}


def test_a_gold_answer_with_another_value_is_wrong() -> None:
    perturbed = Counter[str]()
    for task in tasks():
        gold = task["answer_calls"]
        for at, item in enumerate(gold):
            for key, value in item["arguments"].items():
                choices = tools()[item["name"]].arguments[key].choices
                other = next((choice for choice in choices if choice != value), f"{value}0")
                if key == "new_value" and item["arguments"]["field"] in ("list_name", "status"):
                    other = {"Backlog": "In Review", "Won": "Lost"}.get(
                        value, "Backlog" if "list" in str(item) else "Won"
                    )
                changed = {"name": item["name"], "arguments": {**item["arguments"], key: other}}
                verdict = judged(gold, [*gold[:at], changed, *gold[at + 1 :]])
                assert (verdict.score, verdict.parts["exact"]) == (0, 0), (task["id"], changed)
                perturbed[item["name"]] += 1
    assert perturbed.total() > 1500
    assert len(perturbed) >= 10


def test_a_gold_answer_with_a_wrong_id_is_wrong() -> None:
    found = 0
    for task in tasks():
        gold = task["answer_calls"]
        for at, item in enumerate(gold):
            for key in item["arguments"].keys() & {"event_id", "email_id", "task_id", "customer_id"}:
                for wrong in ("00000001", "00009999"):
                    if wrong in str(gold):
                        continue
                    changed = {"name": item["name"], "arguments": {**item["arguments"], key: wrong}}
                    assert judged(gold, [*gold[:at], changed, *gold[at + 1 :]]).score == 0
                    found += 1
    assert found > 500


def test_a_gold_answer_less_one_call_is_wrong() -> None:
    for task in tasks():
        gold = task["answer_calls"]
        for at in range(len(gold)):
            verdict = judged(gold, [*gold[:at], *gold[at + 1 :]])
            assert (verdict.score, verdict.parts["state"]) == (0, 0), task["id"]
            # What is left of several calls has changed something; of one call, nothing.
            assert verdict.parts["no_side_effects"] == float(len(gold) == 1)


def test_a_call_made_twice_is_wrong_where_it_adds_and_passed_over_where_it_cannot_matter() -> None:
    twice = Counter[bool]()
    for task in tasks():
        gold = task["answer_calls"]
        for at, item in enumerate(gold):
            verdict = judged(gold, [*gold[: at + 1], item, *gold[at + 1 :]])
            assert verdict.score == float(not appends(item)), (task["id"], item)
            assert verdict.parts["exact"] == 0
            twice[appends(item)] += 1
    assert min(twice.values()) > 200


def test_reordering_independent_calls_changes_nothing() -> None:
    """Calls are independent unless both add a row to the same table: rows are compared in order, and get ids in order."""
    random, several, reordered = Random(0), 0, 0
    for task in tasks():
        gold = task["answer_calls"]
        several += len(gold) > 1
        for _ in range(6 if len(gold) > 1 else 0):
            shuffled = random.sample(gold, len(gold))
            for domain in {
                item["name"].partition(".")[0] for item in gold
            }:  # what adds to a table keeps its order
                added = iter(
                    [item for item in gold if appends(item) and item["name"].startswith(f"{domain}.")]
                )
                shuffled = [
                    next(added) if appends(item) and item["name"].startswith(f"{domain}.") else item
                    for item in shuffled
                ]
            reordered += shuffled != gold
            verdict = judged(gold, shuffled)
            assert set(verdict.parts.values()) == {1.0}, (task["id"], shuffled)
    assert several > 100
    assert reordered > 300


def test_rows_are_compared_in_order() -> None:
    swapped = 0
    for task in tasks():
        gold = task["answer_calls"]
        if len(gold) == 2 and all(map(appends, gold)) and len({item["name"] for item in gold}) == 1:
            verdict = judged(gold, gold[::-1])
            assert (verdict.score, verdict.parts["exact"]) == (0, 1)
            swapped += 1
    assert swapped > 10
    # A deletion of the largest id and an addition are not independent, either: the next id differs.
    delete, event = call("calendar.delete_event", event_id="00000299"), created()
    assert judged([delete, event], [event, delete]).score == 0


def created(**changes: str) -> dict[str, Any]:
    event = {
        "event_name": "Plan",
        "participant_email": "a@b.c",
        "event_start": "2023-12-01 09:00:00",
        "duration": "30",
    }
    return call("calendar.create_event", **{**event, **changes})


def test_case_counts_in_status_list_and_board_alone() -> None:
    assert judged([created()], [created(event_name="pLAN", participant_email="A@B.C")]).score == 1
    mail = call("email.send_email", recipient="a@b.c", subject="Hi", body="One")
    assert judged([mail], [call("email.send_email", recipient="A@b.c", subject="hI", body="ONE")]).score == 1
    for name, column, value in (
        ("tasks", "board", "Design"),
        ("tasks", "list_name", "Backlog"),
        ("customers", "status", "Won"),
    ):
        shape = SHAPES[name]
        row = fresh_tables().rows(name)[0]
        at = shape.columns.index(column)
        upper, lower = ((*row[:at], text, *row[at + 1 :]) for text in (value, value.lower()))
        assert shape.key(upper) != shape.key(lower)
    assert {name: sorted(shape.cased) for name, shape in SHAPES.items() if shape.cased} == {
        "tasks": ["board", "list_name"],
        "customers": ["status"],
    }


def test_failed_calls_and_reads_are_passed_over() -> None:
    noise = [
        call("calendar.search_events", query="x"),
        call("calendar.delete_event", event_id="99999999"),
        call("calendar.create_event", event_name="x"),
        call("email.send_email", recipient="nobody", subject="x", body="x"),
        call("no.such_tool", x=1),
        call("calendar.create_event", **{**created()["arguments"], "duration": 30}),
    ]
    for task in tasks()[::9]:
        gold = task["answer_calls"]
        assert judged(gold, [*noise, *(item for each in gold for item in (each, *noise))]).score == 1


def test_where_nothing_is_to_change_nothing_may_change() -> None:
    empty = [task for task in tasks() if not task["answer_calls"]]
    assert len(empty) > 50
    assert judged([], []).score == 1
    assert judged([], [call("calendar.search_events")]).score == 1
    assert judged([], [], content="").score == 0  # an answer that says nothing
    verdict = judged([], [created()])
    assert (verdict.score, verdict.parts["state"], verdict.parts["no_side_effects"]) == (0, 0, 0)


def test_a_malformed_answer_is_wrong_whatever_its_state() -> None:
    verdict = judged([created()], [created()], malformed=True)
    assert verdict.score == 0
    assert verdict.parts == {"format": 0, "state": 1, "no_side_effects": 1, "exact": 1}
    assert "thinking was not closed" in verdict.detail


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ("x", "calls"),
        ([{"name": "calendar.delete_event"}], "arguments"),
        ([call("calendar.remove", event_id="00000001")], "no tool"),
        ([call("calendar.search_events")], "changes nothing"),
        ([call("calendar.delete_event", event_id="1")], "no event_id"),
        ([call("calendar.delete_event", event_id=1)], "must be a text"),
    ],
)
def test_gold_calls_that_cannot_be_made_are_refused(calls: Any, words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        validate_spec({"name": "workbench", "calls": calls})
    with pytest.raises(ArtifactError, match="extra"):
        validate_spec({"name": "workbench", "calls": [], "extra": 1})


def test_sessions_share_nothing_that_they_write() -> None:
    first, second = (open_session({"name": "workbench", "calls": []}) for _ in range(2))
    assert isinstance(first, ToolSession)
    assert isinstance(second, ToolSession)
    first.call("calendar.delete_event", {"event_id": "00000013"})
    assert first.tables.rows("emails") is second.tables.rows("emails")  # nothing is read or copied again
    assert second.tables.rows("calendar") is fresh_tables().rows("calendar")
    assert "90" in second.call(
        "calendar.get_event_information_by_id", {"event_id": "00000013", "field": "duration"}
    )
    assert "no event_id" in first.call("calendar.delete_event", {"event_id": "00000013"})
    assert open_session({"name": "math", "answer": 1}) is None


def test_no_template_is_in_train_and_in_dev() -> None:
    lines = {split: list(read_chat(DATA / f"{split}.jsonl.gz")) for split in ("train", "dev")}
    told = {
        split: [line.metadata for line in found if line.metadata is not None]
        for split, found in lines.items()
    }
    templates = {split: {item["template"] for item in found} for split, found in told.items()}
    assert not templates["train"] & templates["dev"]
    assert 0.15 < len(templates["dev"]) / 53 < 0.25
    assert 0.15 < len(lines["dev"]) / 447 < 0.25
    categories = [{item["category"] for item in found} for found in told.values()]
    assert categories[0] == categories[1]
    assert len(categories[0]) == 6
    for line in (*lines["train"], *lines["dev"]):
        assert [message.role for message in line.conversation] == ["system", "user"]
        assert all(
            fact in line.conversation[0].text for fact in ("Thursday 2023-11-30", "00:00:00", "9:00", "18:00")
        )
        assert line.grader is not None
        assert {item["name"] for item in line.grader["calls"]} <= {
            tool["function"]["name"] for tool in line.tools or ()
        }


def test_the_lines_are_those_that_the_tasks_make() -> None:
    made = workbench_tasks.split_tasks(tasks())
    for split, lines in made.items():
        assert [row for row, _ in json_lines(DATA / f"{split}.jsonl.gz")] == json.loads(json.dumps(lines))


def test_what_a_model_makes_up_never_raises() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    values = [
        *(None, True, 0, -1, 1e308, "", " ", "\x00", "x" * 100_000, "\ud800", "é漢字🎉", "9" * 5000, "²"),
        *([], {}, deep, {"a": {"b": None}}, "00000013", "2023-11-30", "%s{}\\n", "'; drop table"),
    ]
    names = [*tools(), "", "\x00", "x" * 10_000, "calendar", "calendar.", "\ud800", "__class__"]
    random = Random(1)
    session = open_session({"name": "workbench", "calls": []})
    assert session is not None
    made = []
    for name in names * 12:
        keys = [
            *(tools()[name].arguments if name in tools() else ()),
            "\ud800",
            "",
            "tables",
            "self",
            "x" * 999,
        ]
        arguments = {key: random.choice(values) for key in random.sample(keys, random.randint(0, len(keys)))}
        text = session.call(name, arguments)
        assert isinstance(text, str)
        text.encode()
        made.append({"name": name, "arguments": arguments})
    for odd in (None, [], "x", 3):
        assert session.call("calendar.search_events", odd) == "The arguments are no object."  # type: ignore[arg-type]
    assert judged([created()], made).score == 0
    assert next_number(["", "x", "٣", "9" * 5000, "7"]) == 8


def test_texts_are_kept_as_they_are() -> None:
    session = open_session({"name": "workbench", "calls": []})
    assert session is not None
    session.call("email.send_email", {"recipient": "a@b.c", "subject": "漢字\x00🎉", "body": "x" * 100_000})
    found = json.loads(session.call("email.search_emails", {"query": "漢字"}))
    assert (found[0]["subject"], len(found[0]["body"])) == ("漢字\x00🎉", 100_000)


@pytest.mark.parametrize(
    "text", [None, "", "address\nx@y.z\n", "email_address\nx@y.z,more\n", "email_address\n\xff"]
)
def test_a_damaged_table_is_named(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "DATA", tmp_path)
    path = tmp_path / "company_directory.csv"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError) as caught:
        state.directory.__wrapped__()
    assert caught.value.where == str(path)
