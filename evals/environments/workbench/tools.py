"""WorkBench's 27 tools: what data/tools.json says of each, and the function of the same name in its domain's module."""

import json
from functools import cache
from types import ModuleType
from typing import Any

from evals.environments.tools import Argument, Tool
from evals.environments.workbench import (
    analytics,
    calendar,
    company_directory,
    customer_relationship_manager,
    email,
    project_management,
)
from evals.environments.workbench.state import DATA, SHAPES

_MODULES: tuple[ModuleType, ...] = (
    *(calendar, email, analytics, project_management, customer_relationship_manager, company_directory),
)
DOMAINS = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
"""Module by domain, the first part of its tools' names."""


@cache
def descriptions() -> list[dict[str, Any]]:
    """data/tools.json: name, description, parameters (JSON schema), changes_state and returns of each tool."""
    found: list[dict[str, Any]] = json.loads((DATA / "tools.json").read_text(encoding="utf-8"))
    return found


@cache
def tools() -> dict[str, Tool]:
    """The tools by name, such as "calendar.create_event"."""
    return {item["name"]: _tool(item) for item in descriptions()}


def _tool(item: dict[str, Any]) -> Tool:
    domain, _, function = item["name"].partition(".")
    schema = item["parameters"]
    arguments = {
        name: Argument(name in schema["required"], tuple(settings.get("enum", ())))
        for name, settings in schema["properties"].items()
    }
    if item["name"] == "calendar.update_event":  # any column, which the schema does not list
        arguments["field"] = Argument(choices=SHAPES["calendar"].columns)
    return Tool(arguments, item["changes_state"], getattr(DOMAINS[domain], function))


def schemas(domains: list[str]) -> list[dict[str, Any]]:
    """The tools of some domains in OpenAI's form; the directory always comes with them."""
    return [
        {"type": "function", "function": {key: item[key] for key in ("name", "description", "parameters")}}
        for item in descriptions()
        if item["name"].partition(".")[0] in (*domains, "company_directory")
    ]
