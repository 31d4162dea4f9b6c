"""What the reading tools say agrees with the gold answers: rules of thumb that use the tools come to the very calls."""

import json
import re
from datetime import datetime
from typing import Any

from evals.environments.session import open_session
from evals.environments.workbench.tasks import read_tasks

METRICS = {
    "total visits": "total_visits_count",
    "engaged users": "engaged_users_count",
    "average session duration": "get_average_session_duration",
}
SOURCES = ("direct", "referral", "search engine", "social media")


def read(tool: str, **arguments: str) -> Any:
    session = open_session({"name": "workbench", "calls": []})
    assert session is not None
    return json.loads(session.call(tool, arguments))


def asked(template: str) -> list[dict[str, Any]]:
    """The tasks whose template contains a text."""
    return [{**task, "query": task["query"].lower()} for task in read_tasks() if template in task["template"]]


def day_in(query: str, before: str) -> str:
    match = re.search(rf"{before} ([a-z]+ \d+)", query)
    assert match is not None
    return datetime.strptime(f"{match[1]} 2023", "%B %d %Y").strftime("%Y-%m-%d")


def test_whether_a_figure_was_ever_above_or_below_a_threshold() -> None:
    found = set()
    for task in asked("at any time since {natural_language_date}"):
        if re.search("otherwise|if not", task["template"], re.IGNORECASE):
            continue
        metric = re.search("|".join(METRICS), task["query"])
        bound = re.search(r"(more|less) than (\d+)", task["query"])
        assert metric is not None
        assert bound is not None
        values = read(f"analytics.{METRICS[metric[0]]}", time_min=day_in(task["query"], "since")).values()
        limit = int(bound[2])
        holds = any(value > limit if bound[1] == "more" else value < limit for value in values)
        assert holds == bool(task["answer_calls"]), task["id"]
        found.add((task["id"], holds))
    assert len(found) > 30
    assert len({holds for _, holds in found}) == 2


def test_the_most_and_the_least_popular_source() -> None:
    tasks = asked("popular traffic source since")
    assert len(tasks) > 5
    for task in tasks:
        since = day_in(task["query"], "since")
        counts = {
            source: sum(
                read("analytics.traffic_source_count", time_min=since, traffic_source=source).values()
            )
            for source in SOURCES
        }
        wanted = (max if "most popular" in task["query"] else min)(counts, key=lambda source: counts[source])
        (call,) = task["answer_calls"]
        assert call["arguments"] == {
            "time_min": since,
            "time_max": "2023-11-29",
            "value_to_plot": f"visits_{wanted.replace(' ', '_')}",
            "plot_type": "line",
        }


def test_the_first_meeting_of_a_day() -> None:
    tasks = asked("Cancel my first meeting on {natural_language_date}")
    assert len(tasks) > 5
    for task in tasks:
        day = day_in(task["query"], "on")
        events = read("calendar.search_events", time_min=f"{day} 00:00:00", time_max=f"{day} 23:59:59")
        first = min(events, key=lambda event: event["event_start"])
        assert task["answer_calls"] == [
            {"name": "calendar.delete_event", "arguments": {"event_id": first["event_id"]}}
        ]


def test_who_has_overdue_tasks() -> None:
    found = set()
    for task in asked("has any overdue tasks"):
        name = re.search(r"(?:if|think) (\w+) (?:has|might)", task["query"])
        assert name is not None
        overdue = any(
            item["due_date"] < "2023-11-30" and item["list_name"] != "Completed"
            for item in read("project_management.search_tasks", assigned_to_email=name[1])
        )
        assert overdue == ("overdue" in json.dumps(task["answer_calls"])), task["id"]
        found.add((task["id"], overdue))
    assert len(found) > 10
