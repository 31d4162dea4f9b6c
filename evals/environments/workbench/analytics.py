"""The tools for visits to the web site. A day counts if it had any visit."""

from collections.abc import Iterator
from typing import Any

from evals.environments.tables import Row, Tables
from evals.environments.tools import Refusal, shown
from evals.environments.workbench.arguments import between, day_of
from evals.environments.workbench.state import VISIT, visits

_DAY, _VISITOR, _, _SECONDS, _SOURCE, _ENGAGED = range(len(VISIT.columns))


def get_visitor_information_by_id(_tables: Tables, visitor_id: str) -> Any:
    rows = [VISIT.record(row) for row in visits() if row[_VISITOR] == visitor_id]
    if not rows:
        raise Refusal(f"There is no visitor {shown(visitor_id)}.")
    return rows


def total_visits_count(_tables: Tables, time_min: str | None = None, time_max: str | None = None) -> Any:
    return {day: len(rows) for day, rows in _days(time_min, time_max)}


def engaged_users_count(_tables: Tables, time_min: str | None = None, time_max: str | None = None) -> Any:
    return {day: sum(row[_ENGAGED] == "True" for row in rows) for day, rows in _days(time_min, time_max)}


def traffic_source_count(
    _tables: Tables,
    time_min: str | None = None,
    time_max: str | None = None,
    traffic_source: str | None = None,
) -> Any:
    return {
        day: sum(not traffic_source or row[_SOURCE] == traffic_source for row in rows)
        for day, rows in _days(time_min, time_max)
    }


def get_average_session_duration(
    _tables: Tables, time_min: str | None = None, time_max: str | None = None
) -> Any:
    return {
        day: sum(int(row[_SECONDS]) for row in rows) / len(rows) for day, rows in _days(time_min, time_max)
    }


def create_plot(tables: Tables, time_min: str, time_max: str, value_to_plot: str, plot_type: str) -> Any:
    path = f"plots/{time_min}_{time_max}_{value_to_plot}_{plot_type}.png"
    tables.append("plots", (path,))
    return path


def _days(time_min: str | None, time_max: str | None) -> Iterator[tuple[str, list[Row]]]:
    """The days in the bounds in ascending order, each with its visits."""
    low, high = day_of(time_min, "time_min"), day_of(time_max, "time_max")
    days: dict[str, list[Row]] = {}
    for row in visits():
        if between(row[_DAY], low, high):
            days.setdefault(row[_DAY], []).append(row)
    yield from sorted(days.items())
