"""Calls that are right, and the many ways of being nearly right. tests/peers/test_bfcl_checker.py compares with BFCL's."""

import json
from typing import Any

import pytest

from evals.graders.grade import Grade, grade, grade_text, validate_spec
from model.chat.events import ParsedMessage
from model.chat.tool_calls import ToolCall
from model.errors import ArtifactError

WEATHER = {"name": "weather", "arguments": {"city": "Paris", "days": 3, "wind": 1.5, "tags": ["a", True]}}
TIME = {"name": "time", "arguments": {"zone": "CET"}}


def answer(*calls: dict[str, Any]) -> str:
    return f"<TOOLCALL>{json.dumps(calls)}</TOOLCALL>" if calls else "There is no tool for it."


def exactly(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "tool_calls", "calls": list(calls), **more}


def accepting(**arguments: list[Any]) -> dict[str, Any]:
    return {"name": "tool_calls", "accepted": [{"f": arguments}]}


def score(spec: dict[str, Any], *calls: dict[str, Any]) -> float:
    return grade_text(spec, answer(*calls)).score


def takes(accepted: list[Any], value: Any) -> bool:
    return bool(score(accepting(x=accepted), {"name": "f", "arguments": {"x": value}}))


def altered(**changes: Any) -> dict[str, Any]:
    return {"name": "weather", "arguments": {**WEATHER["arguments"], **changes}}


class TestExactCalls:
    def test_the_same_calls(self) -> None:
        text = "Let me see.\n" + answer(WEATHER, TIME)
        assert grade_text(exactly(WEATHER, TIME), text) == Grade(
            1.0, {"format": 1.0, "name": 1.0, "arguments": 1.0}, "as wanted"
        )

    def test_the_order_of_keys_does_not_count_that_of_calls_does(self) -> None:
        backwards = {
            "name": "weather",
            "arguments": dict(reversed(altered()["arguments"].items())),
        }
        assert score(exactly(WEATHER, TIME), backwards, TIME) == 1.0
        assert score(exactly(WEATHER, TIME), TIME, WEATHER) == 0.0
        assert score(exactly(WEATHER, TIME, ordered=False), TIME, WEATHER) == 1.0

    @pytest.mark.parametrize(
        "changes",
        [
            {"city": "paris"},
            {"days": 3.0},
            {"days": "3"},
            {"days": True},
            {"days": None},
            {"wind": "1.5"},
            {"tags": ["a"]},
            {"tags": ["a", 1]},
            {"tags": [True, "a"]},
            {"tags": {"a": True}},
            {"more": None},
        ],
    )
    def test_other_arguments(self, changes: dict[str, Any]) -> None:
        verdict = grade_text(exactly(WEATHER), answer(altered(**changes)))
        assert (verdict.score, verdict.parts) == (0.0, {"format": 1.0, "name": 1.0, "arguments": 0.0})

    def test_an_int_for_a_float(self) -> None:
        assert (
            score(exactly({"name": "f", "arguments": {"x": 2.0}}), {"name": "f", "arguments": {"x": 2}})
            == 1.0
        )

    def test_parts_are_shares_of_the_calls_wanted_or_made(self) -> None:
        spec = exactly(WEATHER, TIME, ordered=False)
        one = grade_text(spec, answer(TIME))
        assert (one.parts["name"], one.parts["arguments"]) == (0.5, 0.5)
        assert one.detail == "1 of 2 wanted calls are right, 1 were made"
        four = grade_text(spec, answer(TIME, altered(days=4), TIME, TIME))
        assert (four.parts["name"], four.parts["arguments"], four.score) == (0.5, 0.25, 0.0)
        none = grade_text(spec, "I won't.")
        assert (none.score, none.parts) == (0.0, {"format": 1.0, "name": 0.0, "arguments": 0.0})


class TestNoCall:
    @pytest.mark.parametrize("spec", [exactly(), {"name": "tool_calls", "accepted": []}])
    def test_only_words_are_right(self, spec: dict[str, Any]) -> None:
        assert grade_text(spec, "None of them helps.").score == 1.0
        assert score(spec, TIME) == 0.0
        assert grade_text(spec, "").score == grade_text(spec, "").parts["format"] == 0.0
        assert grade_text(spec, "thinking without an end", thinking=True).score == 0.0
        assert grade_text(spec, "<TOOLCALL>[]</TOOLCALL>").score == 0.0


class TestForm:
    @pytest.mark.parametrize(
        "text",
        [
            '<TOOLCALL>[{"name": "time", "arguments": {"zone": "CET"}}]',
            '<TOOLCALL>{"name": "time", "arguments": {"zone": "CET"}}</TOOLCALL>',
            '<TOOLCALL>[{"name": "time", "arguments": {"zone": CET}}]</TOOLCALL>',
            answer(TIME) + "</TOOLCALL>",
            '[{"name": "time", "arguments": {"zone": "CET"}}]',
            'time(zone="CET")',
            "<TOOLCALL>" + "[" * 20_000,
        ],
    )
    def test_a_malformed_call_is_wrong(self, text: str) -> None:
        verdict = grade_text(exactly(TIME), text)
        assert verdict.score == 0.0
        assert verdict.parts["format"] == float("TOOLCALL" not in text)

    def test_a_right_call_beside_a_malformed_one_is_wrong(self) -> None:
        verdict = grade_text(exactly(TIME), answer(TIME) + "<TOOLCALL>[]</TOOLCALL>")
        assert (verdict.score, verdict.parts["arguments"], verdict.parts["format"]) == (0.0, 1.0, 0.0)

    @pytest.mark.parametrize("arguments", ["", "[]", "{", "3", "[" * 100_000, '"{"'])
    def test_calls_that_no_parser_made(self, arguments: str) -> None:
        message = ParsedMessage("", "", (ToolCall(0, "time", arguments),), ())
        assert grade(exactly(TIME), message).parts == {"format": 0.0, "name": 1.0, "arguments": 0.0}

    def test_arguments_as_text(self) -> None:
        text = '<TOOLCALL>[{"name": "time", "arguments": "{\\"zone\\": \\"CET\\"}"}]</TOOLCALL>'
        assert grade_text(exactly(TIME), text).score == 1.0


class TestAcceptedValues:
    @pytest.mark.parametrize(
        ("accepted", "right", "wrong"),
        [
            ([5], [5], [5.0, "5", True, None, [5]]),
            ([5.0], [5.0, 5], [5.5, "5.0"]),
            ([1], [1], [True]),
            ([True], [True], [1, "true", "True"]),
            ([None], [None], ["", 0]),
            (["New York, NY"], ["new york NY", "New-York/NY", "NEWYORKNY"], ["New York", ["New York, NY"]]),
            (["it's"], ['it"s', "IT'S"], ["its"]),
            ([[1, 2], [2, 1]], [[1, 2], [2, 1]], [[1], [1, 2, 3], [1.0, 2.0], "1, 2"]),
            ([["A b", "C"]], [["ab", "c"]], [["c", "ab"]]),
            ([[1.5, 2.0]], [[1.5, 2]], [[1.5]]),
            ([[[1], []]], [[[1], []]], [[[], [1]], [1]]),
            (
                [{"to": ["Bo", "Boe"], "cc": ["", "Al"]}],
                [{"to": "bo"}, {"to": "Boe", "cc": "al"}, {"to": "bo", "cc": ""}],
                [{}, {"cc": "al"}, {"to": "bo", "bcc": ""}, "bo", [["to", "bo"]]],
            ),
            ([[{"n": [1]}, {"n": [2, 3]}]], [[{"n": 1}, {"n": 3}]], [[{"n": 3}, {"n": 1}], [{"n": 1}]]),
            (
                [{"at": [{"x": [1]}]}, {"raw": 2}],
                [{"at": {"x": 1}}, {"raw": 2}],
                [{"at": {"x": 2}}, {"raw": [2]}],
            ),
        ],
    )
    def test_values(self, accepted: list[Any], right: list[Any], wrong: list[Any]) -> None:
        assert [value for value in right if not takes(accepted, value)] == []
        assert [value for value in wrong if takes(accepted, value)] == []

    def test_an_argument_that_may_be_left_out(self) -> None:
        spec = accepting(x=[1], unit=["", "cm"])
        assert score(spec, {"name": "f", "arguments": {"x": 1}}) == 1.0
        assert score(spec, {"name": "f", "arguments": {"x": 1, "unit": "CM"}}) == 1.0
        assert score(spec, {"name": "f", "arguments": {"x": 1, "unit": "mm"}}) == 0.0
        assert score(spec, {"name": "f", "arguments": {"unit": "cm"}}) == 0.0
        assert score(spec, {"name": "g", "arguments": {"x": 1}}) == 0.0

    def test_calls_in_any_order_are_paired_as_well_as_can_be(self) -> None:
        """The first wanted call would take both; only the second made call suits the second."""
        spec = {"name": "tool_calls", "accepted": [{"f": {"x": [1, 2]}}, {"f": {"x": [1]}}]}
        one, two = ({"name": "f", "arguments": {"x": x}} for x in (1, 2))
        assert score(spec, one, two) == score(spec, two, one) == 1.0
        assert score(spec, two, two) == score(spec, one) == 0.0
        assert score({**spec, "ordered": True}, two, one) == 1.0
        assert score({**spec, "ordered": True}, one, two) == 0.0


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "give either calls or accepted"),
        ({"calls": [], "accepted": []}, "give either calls or accepted"),
        ({"calls": TIME}, "calls"),
        ({"calls": [{"name": "f"}]}, "calls.0.arguments: Field required"),
        ({"calls": [{"name": "f", "arguments": "{}"}]}, "calls.0.arguments"),
        ({"calls": [{"name": "", "arguments": {}}]}, "calls.0.name"),
        ({"calls": [{**TIME, "id": 1}]}, "calls.0.id"),
        ({"accepted": [{}]}, "each entry is one function"),
        ({"accepted": [{"f": {}, "g": {}}]}, "each entry is one function"),
        ({"accepted": [{"f": {"x": 1}}]}, "accepted.0.f.x"),
        ({"accepted": [{"f": {"x": []}}]}, "accepted.0.f.x"),
        ({"calls": [], "ordered": 1}, "ordered"),
        ({"calls": [], "order": True}, "order"),
    ],
)
def test_malformed_specifications_are_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        validate_spec({"name": "tool_calls", **spec})
    assert words in caught.value.what
