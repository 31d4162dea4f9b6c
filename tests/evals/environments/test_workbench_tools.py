"""WorkBench's 27 tools, one by one: bounds, case, limits, defaults, and calls that fail and change nothing."""

import json
from typing import Any

import pytest

from evals.environments.tools import ToolSession
from evals.environments.workbench.state import SHAPES, fresh_tables, visits
from evals.environments.workbench.tools import descriptions, schemas, tools

ME = "sam.mail@atlas.com"


@pytest.fixture
def office() -> ToolSession:
    return ToolSession(tools(), fresh_tables())


def said(office: ToolSession, tool: str, /, **arguments: Any) -> Any:
    """The tool's answer; JSON as what it is, a message as text."""
    text = office.call(tool, arguments)
    try:
        return json.loads(text) if text[:1] in "[{" else text
    except ValueError:
        return text


def last(office: ToolSession, table: str) -> dict[str, str]:
    return SHAPES[table].record(office.tables.rows(table)[-1])


def fails(office: ToolSession, words: str, tool: str, /, **arguments: Any) -> None:
    before = office.tables.copy()
    assert words in office.call(tool, arguments)
    assert office.tables.same(before)
    for table in SHAPES:
        assert office.tables.rows(table) is before.rows(table)


def test_there_are_27_tools_and_five_tables_as_described() -> None:
    assert len(tools()) == 27
    assert sum(tool.changes for tool in tools().values()) == 14
    assert {name: len(fresh_tables().rows(name)) for name in SHAPES} == {
        "calendar": 300,
        "emails": 500,
        "plots": 0,
        "tasks": 300,
        "customers": 200,
    }
    assert len(visits()) == 1000
    for item in descriptions():
        assert {name: argument.needed for name, argument in tools()[item["name"]].arguments.items()} == {
            name: name in item["parameters"]["required"] for name in item["parameters"]["properties"]
        }


def test_the_directory_comes_with_every_domain() -> None:
    names = [tool["function"]["name"] for tool in schemas(["email"])]
    assert [name.partition(".")[0] for name in names] == ["email"] * 6 + ["company_directory"]
    assert len(schemas(sorted({name.partition(".")[0] for name in tools()}))) == 27


# calendar


def test_events_are_found_by_name_or_participant_in_any_case(office: ToolSession) -> None:
    by_name = said(office, "calendar.search_events", query="SYNC UP")
    assert by_name[0]["event_id"] == "00000013"
    assert len(by_name) == 5
    assert all("sync up" in item["event_name"].lower() for item in by_name)
    by_person = said(office, "calendar.search_events", query="Luis.Ortiz")
    assert {item["participant_email"] for item in by_person} == {"luis.ortiz@atlas.com"}
    assert said(office, "calendar.search_events") == said(office, "calendar.search_events", query="")
    assert [item["event_id"] for item in said(office, "calendar.search_events")] == [
        row[0] for row in office.tables.rows("calendar")[:5]
    ]
    assert "Nothing" in said(office, "calendar.search_events", query="no such event")


def test_bounds_of_events_are_part_of_what_they_bound(office: ToolSession) -> None:
    def ids(**bounds: str) -> list[str]:
        found = said(office, "calendar.search_events", **bounds)
        return [] if isinstance(found, str) else [item["event_id"] for item in found]

    start = "2023-08-01 09:00:00"
    assert ids(time_min=start, time_max=start) == ["00000013"]
    assert ids(time_max="2023-08-01 08:59:59") == []
    assert "00000013" not in ids(time_min="2023-08-01 09:00:01")
    assert ids(time_max="2023-08-01") == []  # a day alone is its first moment
    assert ids(time_min="2023-08-01")[0] == "00000013"
    assert ids(time_min="2023-08-01T09:00", time_max="2023-08-01 09:00") == ["00000013"]
    fails(office, "time_min must be", "calendar.search_events", time_min="tomorrow")


def test_a_new_event_gets_the_next_id(office: ToolSession) -> None:
    event = {"event_name": "Plan", "event_start": "2023-12-01 09:00:00", "duration": "30"}
    assert (
        office.call("calendar.create_event", {**event, "participant_email": "Luis.Ortiz@ATLAS.com"})
        == "00000300"
    )
    assert last(office, "calendar") == {
        **event,
        "event_id": "00000300",
        "participant_email": "luis.ortiz@atlas.com",
    }
    for missing in event:
        others = {key: value for key, value in event.items() if key != missing}
        fails(office, f"{missing} is missing", "calendar.create_event", participant_email=ME, **others)
        fails(
            office,
            f"{missing} is missing",
            "calendar.create_event",
            participant_email=ME,
            **others,
            **{missing: ""},
        )


def test_an_event_is_read_changed_and_deleted(office: ToolSession) -> None:
    key = {"event_id": "00000013"}
    assert said(office, "calendar.get_event_information_by_id", **key, field="duration") == {"duration": "90"}
    office.call("calendar.update_event", {**key, "field": "participant_email", "new_value": "ANNA@atlas.com"})
    office.call("calendar.update_event", {**key, "field": "event_name", "new_value": "Big Talk"})
    row = office.tables.rows("calendar")[0]
    assert row == ("00000013", "Big Talk", "anna@atlas.com", "2023-08-01 09:00:00", "90")
    assert office.call("calendar.delete_event", key) == "event_id 00000013 is deleted."
    assert office.tables.rows("calendar") == fresh_tables().rows("calendar")[1:]
    fails(office, "no event_id '00000013'", "calendar.delete_event", **key)
    fails(office, "no event_id '13'", "calendar.get_event_information_by_id", event_id="13", field="duration")
    fails(
        office, "field must be", "calendar.update_event", event_id="00000275", field="colour", new_value="red"
    )


# e-mail


def test_emails_are_found_by_all_words_the_newest_first(office: ToolSession) -> None:
    found = said(office, "email.search_emails", query="SAM update on")
    assert len(found) == 5
    times = [item["sent_datetime"] for item in found]
    assert times == sorted(times, reverse=True)
    for item in found:
        text = f"{item['subject']} {item['body']} {item['sender/recipient']}".lower()
        assert all(word in text for word in ("sam", "update", "on"))
    newest = max(fresh_tables().rows("emails"), key=lambda row: row[4])
    assert said(office, "email.search_emails")[0]["email_id"] == newest[0]
    assert "Nothing" in said(office, "email.search_emails", query="update zzzz")


def test_bounds_of_emails_compare_the_day(office: ToolSession) -> None:
    day = said(office, "email.search_emails", date_min="2023-10-01", date_max="2023-10-01")
    assert {item["sent_datetime"][:10] for item in day} == {"2023-10-01"}
    late = said(office, "email.search_emails", date_min="2023-10-01 23:59:59", date_max="2023-10-01")
    assert late == day
    fails(office, "date_max must be", "email.search_emails", date_max="2023-1-1")


def test_what_is_sent_lies_in_the_outbox(office: ToolSession) -> None:
    office.call(
        "email.send_email", {"recipient": "Luis.Ortiz@Atlas.com", "subject": "Hi", "body": "One\nTwo"}
    )
    assert last(office, "emails") == {
        "email_id": "00000500",
        "inbox/outbox": "outbox",
        "sender/recipient": "luis.ortiz@atlas.com",
        "subject": "Hi",
        "sent_datetime": "2023-11-30 00:00:00",
        "body": "One\nTwo",
    }
    first = SHAPES["emails"].record(office.tables.rows("emails")[0])
    office.call("email.reply_email", {"email_id": first["email_id"], "body": "Fine"})
    reply = last(office, "emails")
    assert (reply["sender/recipient"], reply["subject"], reply["body"]) == (
        *(first["sender/recipient"], first["subject"], "Fine"),
    )
    office.call("email.forward_email", {"email_id": first["email_id"], "recipient": "A@b.c"})
    forwarded = last(office, "emails")
    assert (forwarded["sender/recipient"], forwarded["subject"], forwarded["body"]) == (
        *("a@b.c", f"FW: {first['subject']}", first["body"]),
    )
    office.call("email.delete_email", {"email_id": first["email_id"]})
    assert office.tables.find("emails", first["email_id"]) is None
    fails(office, "no address", "email.send_email", recipient="luis", subject="Hi", body="Hi")
    fails(office, "no address", "email.forward_email", email_id="00000353", recipient="luis@atlas")
    fails(office, "no email_id", "email.reply_email", email_id=first["email_id"], body="Fine")


# analytics


def test_visits_are_counted_for_each_day(office: ToolSession) -> None:
    bounds = {"time_min": "2023-10-01", "time_max": "2023-10-07"}
    rows = [row for row in visits() if "2023-10-01" <= row[0] <= "2023-10-07"]
    total = said(office, "analytics.total_visits_count", **bounds)
    assert list(total) == sorted({row[0] for row in rows})
    assert sum(total.values()) == len(rows)
    engaged = said(office, "analytics.engaged_users_count", **bounds)
    assert sum(engaged.values()) == sum(row[5] == "True" for row in rows)
    assert engaged.keys() == total.keys()
    sources = [
        said(office, "analytics.traffic_source_count", **bounds, traffic_source=source)
        for source in ("direct", "referral", "search engine", "social media")
    ]
    assert {day: sum(source[day] for source in sources) for day in total} == total
    assert said(office, "analytics.traffic_source_count", **bounds) == total
    seconds = said(office, "analytics.get_average_session_duration", **bounds)
    assert sum(seconds[day] * total[day] for day in total) == pytest.approx(sum(int(row[3]) for row in rows))
    assert sum(said(office, "analytics.total_visits_count").values()) == 1000
    fails(office, "one of direct", "analytics.traffic_source_count", traffic_source="Direct")


def test_visitors_and_plots(office: ToolSession) -> None:
    (row,) = said(office, "analytics.get_visitor_information_by_id", visitor_id="0860")[:1]
    assert row["visitor_id"] == "0860"
    fails(office, "no visitor", "analytics.get_visitor_information_by_id", visitor_id="860")
    plot = {
        "time_min": "2023-10-01",
        "time_max": "2023-11-29",
        "value_to_plot": "total_visits",
        "plot_type": "bar",
    }
    assert office.call("analytics.create_plot", plot) == "plots/2023-10-01_2023-11-29_total_visits_bar.png"
    assert office.tables.rows("plots") == (("plots/2023-10-01_2023-11-29_total_visits_bar.png",),)
    fails(office, "plot_type must be", "analytics.create_plot", **{**plot, "plot_type": "pie"})
    fails(office, "value_to_plot must be", "analytics.create_plot", **{**plot, "value_to_plot": "visits"})


# tasks


def test_tasks_are_found_by_all_that_is_given_without_a_limit(office: ToolSession) -> None:
    found = said(office, "project_management.search_tasks", assigned_to_email="LUIS", list_name="review")
    assert found
    assert all("luis" in item["assigned_to_email"] and item["list_name"] == "In Review" for item in found)
    assert len(said(office, "project_management.search_tasks", board="end")) > 100
    fails(office, "at least one", "project_management.search_tasks")
    fails(office, "at least one", "project_management.search_tasks", board="", task_name=None)


def test_tasks_are_made_and_changed_under_rules(office: ToolSession) -> None:
    task = {"task_name": "Test", "list_name": "Backlog", "due_date": "2023-12-08", "board": "Design"}
    name = "project_management.create_task"
    assert office.call(name, {**task, "assigned_to_email": "Leila.Azizi@atlas.com"}) == "00000300"
    assert last(office, "tasks")["assigned_to_email"] == "leila.azizi@atlas.com"
    fails(office, "owns no task", name, **task, assigned_to_email=ME)
    fails(
        office,
        "list_name must be",
        name,
        **{**task, "list_name": "backlog"},
        assigned_to_email="leila.azizi@atlas.com",
    )
    fails(
        office,
        "board must be",
        name,
        **{**task, "board": "Backend"},
        assigned_to_email="leila.azizi@atlas.com",
    )
    update, key = "project_management.update_task", {"task_id": "00000149"}
    fails(office, "board must be", update, **key, field="board", new_value="Sales")
    fails(office, "list_name must be", update, **key, field="list_name", new_value="Done")
    fails(office, "owns no task", update, **key, field="assigned_to_email", new_value=ME)
    fails(office, "field must be", update, **key, field="task_id", new_value="00000001")
    fails(office, "no task_id", update, task_id="00009999", field="board", new_value="Design")
    office.call(update, {**key, "field": "assigned_to_email", "new_value": "LUIS.ortiz@atlas.com"})
    assert said(
        office, "project_management.get_task_information_by_id", **key, field="assigned_to_email"
    ) == {"assigned_to_email": "luis.ortiz@atlas.com"}
    office.call("project_management.delete_task", key)
    fails(office, "no task_id", "project_management.delete_task", **key)


# customers


def test_customers_are_found_within_bounds(office: ToolSession) -> None:
    name = "customer_relationship_manager.search_customers"
    found = said(office, name, status="WON", product_interest="soft")
    assert 0 < len(found) <= 5
    assert {(item["status"], item["product_interest"]) for item in found} == {("Won", "Software")}
    assert len(said(office, name, assigned_to_email="@atlas")) == 5
    day = found[0]["follow_up_by"]
    assert all(
        item["follow_up_by"] == day for item in said(office, name, follow_up_by_min=day, follow_up_by_max=day)
    )
    assert all(
        item["last_contact_date"] <= "2023-11-01"
        for item in said(office, name, last_contact_date_max="2023-11-01")
    )
    fails(office, "at least one", name)


def test_customers_are_added_and_changed_under_rules(office: ToolSession) -> None:
    name = "customer_relationship_manager.add_customer"
    needed = {"customer_name": "New One", "assigned_to_email": "Raj.Patel@atlas.com", "status": "Lead"}
    assert office.call(name, {**needed, "customer_email": "N@One.com"}) == "00000200"
    added = last(office, "customers")
    assert (added["assigned_to_email"], added["customer_email"]) == ("raj.patel@atlas.com", "n@one.com")
    assert {key for key, value in added.items() if not value} == {
        *("customer_phone", "last_contact_date", "product_interest", "follow_up_by", "notes")
    }
    fails(office, "status must be", name, **{**needed, "status": "lead"})
    fails(office, "product_interest must be", name, **needed, product_interest="Cars")
    fails(office, "customer_name is missing", name, assigned_to_email=ME, status="Lead")
    update, key = "customer_relationship_manager.update_customer", {"customer_id": "00000200"}
    fails(office, "status must be", update, **key, field="status", new_value="Gone")
    fails(office, "product_interest must be", update, **key, field="product_interest", new_value="software")
    fails(office, "field must be", update, **key, field="customer_id", new_value="00000001")
    office.call(update, {**key, "field": "assigned_to_email", "new_value": "A@B.C"})
    assert last(office, "customers")["assigned_to_email"] == "a@b.c"
    office.call("customer_relationship_manager.delete_customer", key)
    assert office.tables.same(fresh_tables())


def test_addresses_are_found_by_a_part_of_the_name(office: ToolSession) -> None:
    assert said(office, "company_directory.find_email_address", name="LUIS") == ["luis.ortiz@atlas.com"]
    assert len(said(office, "company_directory.find_email_address", name="atlas")) == 20
    assert "Nobody" in said(office, "company_directory.find_email_address", name="zzz")
    fails(office, "name is missing", "company_directory.find_email_address", name="")


def test_an_id_that_is_no_number_does_not_stop_the_next_id(office: ToolSession) -> None:
    for value in ("abc", "9" * 5000, "²", "-1"):
        key = office.tables.rows("calendar")[0][0]
        office.call("calendar.update_event", {"event_id": key, "field": "event_id", "new_value": value})
    event = {"event_name": "x", "participant_email": "x", "event_start": "x", "duration": "x"}
    assert office.call("calendar.create_event", event) == "00000300"
