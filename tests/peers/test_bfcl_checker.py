"""Accepted values against BFCL's own checker, over right calls and calls changed in twelve ways.

Its package, bfcl-eval, wants dozens of others; `pip install --no-deps bfcl-eval` is enough here, since the modules that
need them (models to ask, Java and JavaScript) are replaced by empty ones.
"""

import copy
import json
import random
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from evals.graders.grade import grade_text
from tests.evals.test_graded_tasks import TestCalls as Calls
from tests.evals.test_tasks import rows

pytestmark = pytest.mark.skipif(find_spec("bfcl_eval") is None, reason="the package bfcl-eval")

TYPES = {"object": "dict", "number": "float"}
"""The sample names the types of tools as JSON schema does; BFCL's checker wants its own names."""


@pytest.fixture(scope="module")
def bfcl() -> Iterator[Callable[[dict[str, Any], list[dict[str, Any]]], bool]]:
    """(line of the sample, calls) -> whether BFCL finds them right."""
    with pytest.MonkeyPatch.context() as patch:
        models = ModuleType("bfcl_eval.constants.model_config")
        models.MODEL_CONFIG_MAPPING = {"any": SimpleNamespace(underscore_to_dot=False)}  # type: ignore[attr-defined]
        patch.setitem(sys.modules, models.__name__, models)
        for language in ("java", "js"):
            name = f"{language}_type_converter"
            module = ModuleType(f"bfcl_eval.eval_checker.ast_eval.type_convertor.{name}")
            setattr(module, name, None)
            patch.setitem(sys.modules, module.__name__, module)
        from bfcl_eval.constants.enums import Language
        from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

        def check(line: dict[str, Any], calls: list[dict[str, Any]]) -> bool:
            tools = [renamed(tool["function"]) for tool in line["tools"]]
            made = [{call["name"]: call["arguments"]} for call in calls]
            wanted = line["grader"]["accepted"]
            category = line["metadata"]["category"]
            return bool(ast_checker(tools, made, wanted, Language.PYTHON, category, "any")["valid"])

        yield check


def renamed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [renamed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: TYPES.get(value, value) if key == "type" and isinstance(value, str) else renamed(value)
        for key, value in schema.items()
    }


def changed(calls: list[dict[str, Any]], draw: random.Random) -> list[dict[str, Any]]:
    """The calls with one thing about them different, which may or may not matter."""
    calls = copy.deepcopy(calls)
    call = draw.choice(calls)
    arguments = call["arguments"]
    kind = draw.choice(["drop", "twice", "name", "order", "none", "extra", *["argument"] * 6])
    if kind == "drop":
        calls.remove(call)
    elif kind == "twice":
        calls.append(call)
    elif kind == "name":
        call["name"] += "_"
    elif kind == "order":
        draw.shuffle(calls)
    elif kind == "extra":
        arguments["unheard_of"] = 1
    elif kind == "argument" and arguments:
        name = draw.choice(sorted(arguments))
        arguments[name] = other(arguments[name], draw)
        if arguments[name] is None:
            del arguments[name]
    return calls


def other(value: Any, draw: random.Random) -> Any:
    """A value that is near; None: leave it out."""
    if draw.random() < 0.2:
        return None
    if value is None:
        return "null"
    if isinstance(value, bool):
        return draw.choice([not value, int(value), str(value)])
    if isinstance(value, int):
        return draw.choice([value + 1, float(value), str(value)])
    if isinstance(value, float):
        return draw.choice([value + 0.5, int(value), str(value)])
    if isinstance(value, str):
        return draw.choice([value.upper(), value.replace(" ", "-"), value + "x", value + ".", [value], ""])
    if isinstance(value, list):
        return draw.choice([value[:-1], [*value, *value[:1]], value[::-1], json.dumps(value)])
    return draw.choice([{}, {**value, "unheard_of": 1}, [value], dict(reversed(value.items()))])


def test_the_same_verdicts(bfcl: Callable[[dict[str, Any], list[dict[str, Any]]], bool]) -> None:
    draw = random.Random(0)
    verdicts: list[bool] = []
    for line in rows("bfcl.chat"):
        if line["metadata"]["category"] == "irrelevance":
            continue
        right = Calls.calls(line)
        for calls in [right, *(changed(right, draw) for _ in range(30))]:
            text = f"<TOOLCALL>{json.dumps(calls)}</TOOLCALL>" if calls else "No."
            theirs = bfcl(line, calls)
            assert bool(grade_text(line["grader"], text).score) == theirs, (line["id"], calls)
            verdicts.append(theirs)
    assert 0.2 < sum(verdicts) / len(verdicts) < 0.8
