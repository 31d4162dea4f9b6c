"""Lines of pairs: what is read, what is refused and how it is named, when two sides are alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import ArtifactError
from stages.common.preferences.lines import likeness, parse_pair, read_pairs
from tests.stages.common.preferences.examples import PAIRS, TEXTS, TOOL_LOOPS, calling, result, said, user


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_read_with_its_place(name: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(TEXTS) + "\n\n" + json.dumps(PAIRS[name]) + "\n")
    _, pair = read_pairs(path)
    assert pair.place == f"{path} line 3"
    assert pair.strength == PAIRS[name].get("strength", 1.0)
    assert pair.sample("chosen").place == f"{path} line 3 (chosen)"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"chosen": None}, "chosen: "),
        ({"chosen": ""}, "chosen[0]: has neither an answer nor a tool call"),
        ({"rejected": "  \n"}, "rejected[0]: has neither"),
        ({"rejected": []}, "rejected: is empty"),
        ({"chosen": [user("a")]}, "chosen[0].role: is user; a side is what the assistant"),
        ({"chosen": [said("a"), user("b"), said("c")]}, "chosen[1].role: is user"),
        ({"chosen": [calling(), result("x")]}, "chosen: ends with a tool result"),
        ({"chosen": [result("x"), said("a")]}, "chosen: begins with a tool result"),
        ({"chosen": [said("a"), result("x"), said("a")]}, "prompt+chosen[2].role: a tool result without"),
        ({"chosen": [{"role": "assistant", "content": 7}]}, "chosen[0].content: "),
        ({"chosen": [{"role": "assistant", "content": "a", "mood": "b"}]}, "chosen[0].mood: is an unknown key"),
        ({"prompt": []}, "prompt: is empty"),
        ({"prompt": "text"}, "prompt: "),
        ({"prompt": [{"role": "system", "content": "a"}]}, "prompt: says nothing but the system message"),
        ({"prompt": [user(" ")]}, "prompt+chosen[0].content: is empty"),
        ({"strength": 0}, "strength: "),
        ({"strength": float("nan")}, "strength: "),
        ({"strength": float("inf")}, "strength: "),
        ({"strength": "2"}, "strength: "),
        ({"strength": True}, "strength: "),
        ({"margin": 1}, "margin: is an unknown key"),
        ({"metadata": {"x": float("nan")}}, "metadata.x: is nan, which is no JSON"),
        ({"tools": [{"name": "f"}, {"name": "f"}]}, "tools: two tools have the name 'f'"),
        ({"chosen": "a\ud800"}, "surrogate"),
    ],
)  # fmt: skip
def test_a_broken_line_is_named(change: dict[str, Any], what: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        parse_pair(TEXTS | change, "pairs.jsonl line 4")
    assert what in caught.value.what
    assert caught.value.where == "pairs.jsonl line 4"
    assert "docs/dpo.md" in caught.value.remedy


def test_chat_jsonl_and_other_files_are_no_pairs(tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": [user("a"), said("b")]}))
    with pytest.raises(ArtifactError, match=r"is missing|is an unknown key"):
        list(read_pairs(tmp_path / "chat.jsonl"))
    (tmp_path / "pairs.txt").write_text("a")
    with pytest.raises(ArtifactError, match="no jsonl of pairs"):
        list(read_pairs(tmp_path / "pairs.txt"))


@pytest.mark.parametrize(
    ("chosen", "rejected", "like", "without_reasoning"),
    [
        ("a b", "a b", "identical", "identical"),
        ("a b", " a b\n", "identical", "identical"),
        ("a b", "a\n\n b", "white space", "white space"),
        ("ab", "a b", "", ""),
        ("a", [said("a", reasoning_content="x")], "", "identical"),
        ([said("a", reasoning_content="x y")], [said("a", reasoning="x  y")], "white space", "identical"),
        ([said("a", reasoning_content="x")], "<think>x</think>\na", "identical", "identical"),
        ([calling(thing="x y")], [calling(thing="x  y")], "white space", "white space"),
        ([calling(thing="x")], [calling(thing="y")], "", ""),
        (
            [calling(thing=1), result("a"), said("b")],
            [calling(thing=1), result("a"), said("c")],
            "",
            "",
        ),
    ],
)
def test_sides_that_say_the_same_are_found(
    chosen: Any, rejected: Any, like: str, without_reasoning: str
) -> None:
    pair = parse_pair(TOOL_LOOPS | {"chosen": chosen, "rejected": rejected}, "x")
    assert likeness(pair, reasoning=True) == like
    assert likeness(pair, reasoning=False) == without_reasoning


def test_arguments_are_compared_as_json_and_not_as_text() -> None:
    def pair(first: str, second: str) -> str:
        sides = [
            [said("", tool_calls=[{"function": {"name": "look", "arguments": arguments}}])]
            for arguments in (first, second)
        ]
        return likeness(
            parse_pair(TOOL_LOOPS | {"chosen": sides[0], "rejected": sides[1]}, "x"), reasoning=True
        )

    assert pair('{"a": 1}', '{ "a":1 }') == "identical"
    assert pair("", "{}") == "identical"
    assert pair('{"a": 1}', '{"a": 2}') == ""
