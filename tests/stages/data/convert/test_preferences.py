"""Formats of preferences: rows written by hand, the pairs that they become, and rows that are not of the format."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import ArtifactError
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.harness import run_stage
from stages.common.preferences.encoding import encode_answers
from stages.common.preferences.lines import likeness, parse_pair, read_pairs
from stages.common.reporter import QuietReporter
from stages.common.stage import StageResult
from stages.data.convert.config import ConvertConfig, FormatName
from stages.data.convert.formats import PAIR_FORMATS
from stages.data.convert.preferences import by_context
from stages.data.convert.rows import LeftOut
from stages.data.stage import CONVERT
from tests.stages.data.convert.test_convert import _variants

ASK = [{"role": "user", "content": "Sum?"}]
PREFERENCE = {"id": 3, "prompt": ASK, "chosen": " Four.\n", "rejected": "Five."}
HELPSTEER = {
    "domain": "general",
    "language": "english",
    "context": ASK,
    "response1": "Four.",
    "response2": "Five.",
    "overall_preference": -2,
    "individual_preference": [],
}
CONTEXT = [
    {"role": "agent", "text": "Hi there."},
    {"role": "user", "text": "Any movies?"},
    {"role": "agent", "api": {"resolve_location": {"location": "_AUTOMATIC"}}},
    {"role": "api", "response": {"resolve_location": {"location": ["Rome"]}}},
]
FIND = {"role": "agent", "api": {"find_movies": {"location": "Rome"}}}
SAY = {"role": "agent", "text": "There are none."}


def graded(generation: Any, reward: Any, **fields: Any) -> dict[str, Any]:
    return {
        "id": "t-0",
        "domain": "movies",
        "context": CONTEXT,
        "generation": generation,
        "reward": reward,
    } | fields


def grouped(*rows: dict[str, Any]) -> dict[str, Any]:
    [(row, _)] = by_context((row, "x") for row in rows)
    return row


GOOD: dict[FormatName, dict[str, Any]] = {
    "preference": PREFERENCE,
    "helpsteer3": HELPSTEER,
    "taskmaster-rewards": grouped(graded(FIND, 1.0), graded(SAY, 0.0)),
}


def test_every_format_has_its_row() -> None:
    assert set(GOOD) == set(PAIR_FORMATS)


def test_answers_and_strengths() -> None:
    assert PAIR_FORMATS["preference"](PREFERENCE) == [
        {"id": "3", "prompt": ASK, "chosen": "Four.", "rejected": "Five."}
    ]
    (line,) = PAIR_FORMATS["helpsteer3"](HELPSTEER)
    assert (line["chosen"], line["rejected"], line["strength"]) == ("Four.", "Five.", 2.0)
    assert line["metadata"] == {"domain": "general", "language": "english"}
    (line,) = PAIR_FORMATS["helpsteer3"](HELPSTEER | {"overall_preference": 3})
    assert (line["chosen"], line["rejected"], line["strength"]) == ("Five.", "Four.", 3.0)


def test_each_good_turn_of_a_context_meets_each_bad_one() -> None:
    nameless = {"role": "agent", "api": {"": {}}}
    rows = [graded(FIND, 1.0), graded(SAY, 0.0), graded(FIND, 1.0), graded(nameless, 0.0)]
    rows += [graded({"role": "agent", "text": "Which?"}, 1.0)]
    lines = PAIR_FORMATS["taskmaster-rewards"](grouped(*rows))
    assert [line["id"] for line in lines] == ["t-0-0", "t-0-1"]
    first = lines[0]
    assert [message["role"] for message in first["prompt"]] == ["assistant", "user", "assistant", "tool"]
    assert first["prompt"][-1]["content"] == '{"location": ["Rome"]}'
    assert first["chosen"][0]["tool_calls"][0]["function"] == {
        "name": "find_movies",
        "arguments": {"location": "Rome"},
    }
    assert first["rejected"] == [{"role": "assistant", "content": "There are none."}]
    called = {
        message["tool_calls"][0]["function"]["name"] for message in (first["prompt"][2], first["chosen"][0])
    }
    assert called < {tool["function"]["name"] for tool in first["tools"]}


@pytest.mark.parametrize("name", GOOD)
def test_what_comes_out_can_be_trained(name: FormatName, tokenizer_directory: Path) -> None:
    for line in PAIR_FORMATS[name](GOOD[name]):
        encoded = encode_answers(ChatTokenizer.open(tokenizer_directory), parse_pair(line, "x"))
        assert encoded.chosen.mask.any()
        assert not encoded.sides_are_equal


@pytest.mark.parametrize("name", GOOD)
def test_no_row_ends_in_another_error(name: FormatName) -> None:
    refused = 0
    for row in _variants(GOOD[name]):
        if not isinstance(row, dict):
            continue
        try:
            for line in PAIR_FORMATS[name](row):
                parse_pair(line, "x")
        except (ValueError, LeftOut, ArtifactError):
            refused += 1
    assert refused > 15


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("preference", PREFERENCE | {"rejected": "Four."}, "both answers are the same"),
        ("helpsteer3", HELPSTEER | {"overall_preference": 0}, "neither answer is preferred"),
        ("taskmaster-rewards", grouped(graded(FIND, 1.0), graded(SAY, 1.0)), "no good and bad turn"),
        ("taskmaster-rewards", grouped(graded(FIND, 1.0), graded(FIND, 0.0)), "no good and bad turn"),
        ("taskmaster-rewards", grouped(graded(FIND, 1, context=[]), graded(SAY, 0, context=[])), "nothing stands"),
        ("taskmaster-rewards", grouped(graded(FIND, 1, context=CONTEXT[:3])), "a call in its context has no result"),
        ("taskmaster-rewards", grouped(graded(FIND, 1, context=CONTEXT[3:])), "a result in its context has no call"),
    ],
)  # fmt: skip
def test_rows_without_a_preference_are_left_out(name: FormatName, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        PAIR_FORMATS[name](row)


def _convert(tmp_path: Path, name: FormatName, rows: list[dict[str, Any]]) -> StageResult:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = ConvertConfig(format=name, data=(path,))
    return run_stage(
        CONVERT, config, out=tmp_path / "out", reporter=QuietReporter(), command=["nano2"]
    ).result


def test_the_command_writes_pairs_and_counts(tmp_path: Path) -> None:
    rows = [graded(FIND, 1.0), graded(SAY, 0.0), graded(FIND, 0.0, domain="coffee", id="c")]
    metrics = _convert(tmp_path, "taskmaster-rewards", rows).metrics
    (pair,) = read_pairs(tmp_path / "out" / "pairs.jsonl")
    assert pair.id == "t-0-0"
    assert (metrics["rows"], metrics["samples"], metrics["left_out"], metrics["with_tool_calls"]) == (
        2,
        1,
        1,
        1,
    )


def test_a_row_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"reward: is 0\.5, neither 0 nor 1") as caught:
        _convert(tmp_path, "taskmaster-rewards", [graded(FIND, 0.5)])
    assert caught.value.where.endswith("rows.jsonl line 1")
    with pytest.raises(ArtifactError, match="chosen: is missing") as caught:
        _convert(tmp_path, "preference", [PREFERENCE, {"prompt": ASK}])
    assert caught.value.where.endswith("rows.jsonl line 2")


def test_empty_answers_and_turns_are_left_out() -> None:
    with pytest.raises(LeftOut, match="an answer is empty"):
        PAIR_FORMATS["preference"](PREFERENCE | {"chosen": "\n"})
    silent = {"role": "agent", "text": ""}
    assert (
        len(PAIR_FORMATS["taskmaster-rewards"](grouped(graded(FIND, 1), graded(SAY, 0), graded(silent, 0))))
        == 1
    )
    with pytest.raises(LeftOut, match="a turn in its context is empty"):
        PAIR_FORMATS["taskmaster-rewards"](grouped(graded(FIND, 1, context=[silent, *CONTEXT])))


@pytest.mark.parametrize(
    ("file", "name", "pairs"), [("taskmaster", "taskmaster-rewards", 584), ("llamafactory", "preference", 66)]
)
def test_the_preferences_of_the_repository_become_pairs(
    tmp_path: Path, file: str, name: FormatName, pairs: int
) -> None:
    data = Path(__file__).parents[4] / "recipes" / "cpu" / "data" / "pairs" / f"{file}.jsonl.gz"
    config = ConvertConfig(format=name, data=(data,))
    outcome = run_stage(CONVERT, config, out=tmp_path / "out", reporter=QuietReporter(), command=["nano2"])
    read = list(read_pairs(tmp_path / "out" / "pairs.jsonl"))
    assert len(read) == outcome.result.metrics["samples"] == pairs
    assert not any(likeness(pair, reasoning=True) for pair in read)
