"""Every format on a row written by hand, and rows that are not of it."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from evals.chat_lines import parse_sample, read_chat
from model.errors import ArtifactError
from stages.common.data.chat.encoding import encode_sample
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageResult
from stages.data.convert.config import ConvertConfig, FormatName
from stages.data.convert.formats import FORMATS, PAIR_FORMATS
from stages.data.convert.rows import LeftOut
from stages.data.stage import CONVERT
from tests.stages.data.convert.examples import GOOD, REASON, TOOLRL

LISTED_BY_THE_CONVERTER = ("react-hotpotqa", "taskmaster4")


def test_every_format_has_its_test() -> None:
    assert set(GOOD) == set(FORMATS)
    assert set(FORMATS) | set(PAIR_FORMATS) == set(get_args(FormatName))


@pytest.mark.parametrize("name", GOOD)
def test_a_row_becomes_a_line_that_can_be_trained(name: FormatName, tokenizer_directory: Path) -> None:
    row, expected = GOOD[name]
    line = FORMATS[name](row)
    if name in LISTED_BY_THE_CONVERTER:
        tools = {tool["function"]["name"] for tool in line.pop("tools")}
        called = {
            each["function"]["name"] for message in line["messages"] for each in message.get("tool_calls", [])
        }
        assert called < tools
    assert line == expected
    for encoded in encode_sample(ChatTokenizer.open(tokenizer_directory), parse_sample(line, "x")):
        assert encoded.mask.any()


def _without(name: str, key: str) -> tuple[str, dict[str, Any]]:
    return name, {field: value for field, value in GOOD[name][0].items() if field != key}


def _with(name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    return name, GOOD[name][0] | fields


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (_without("gsm8k", "solution"), "solution: is missing; the row has id, question, final_answer"),
        (_with("gsm8k", question=3), "question: is int where text is expected"),
        (_with("math", final_answer=" "), "final_answer: is empty"),
        (_with("svamp", answer="4"), "answer: is str where number is expected"),
        (_with("aqua", answer="C"), "answer: is 'C', none of the 2 options"),
        (_with("aqua", options=[]), "options: is no list of texts"),
        (_with("commonsenseqa", answer=2), "answer: is 2, no index of 2 choices"),
        (_with("commonsenseqa", answer=True), "answer: is bool where whole number is expected"),
        (_with("mbpp", test_list=["a", 1]), "test_list: is no list of texts"),
        (_with("self-instruct", output=None), "output: is null where text is expected"),
        (_without("dolly", "output"), "output: is missing"),
        (_with("toolrl", system="You are."), "system: lists no tools"),
        (_with("toolrl", system=TOOLRL["system"].replace("Parameters: {", "Parameters: {{")), "no JSON"),
        (_with("toolrl", system=TOOLRL["system"].replace("2. Name", "Name")), "system: no tool in"),
        (
            _with("toolrl", system=TOOLRL["system"].replace('{"name": {"description"', '{"x": 1, "name": {"description"')),
            "system: a parameter is no object",
        ),
        (_with("toolrl", prompt="hello"), "prompt: text outside of its tags: 'hello'"),
        (_with("toolrl", response="<think> a </think> b"), "response: text outside of its tags: 'b'"),
        (_with("toolrl", response="<tool_call>\n{x\n</tool_call>"), "response: a tool call: no JSON"),
        (_with("toolrl", response="<user> a </user>"), "response: is not one turn of the assistant"),
        (_with("reason-tool-use", messages=["x"]), "messages[0]: is str where object is expected"),
        (
            _with("reason-tool-use", messages=[{"role": "user", "content": [{"type": "image", "value": "x"}]}]),
            "messages[0]: a part is of the unknown type 'image'",
        ),
        (_with("glaive", messages=[{"role": "tool_call", "content": "x"}]), "messages[0]: a tool call: no JSON"),
        (_with("glaive", messages=[{"role": "tool_call", "content": "[1]"}]), "messages[0]: a tool call: no JSON object"),
        (_with("glaive", messages=[{"role": "tool_call", "content": '{"name": "f"}'}]), "a tool call's parameters: is"),
        (_with("glaive", messages=[{"role": "tool_call"}]), "messages[0]: a tool call is no JSON text"),
        (_with("glaive", messages=[{"role": "tool_response"}]), "messages[0].content: is missing"),
        (_with("glaive", messages=[{"content": "x"}]), "role: is missing"),
        (
            _with("taskmaster4", messages=[
                {"role": "tool_response", "name": "x", "content": {}}, {"role": "assistant", "content": "a"}]),
            "messages[0].role: a tool result without a tool call",
        ),
        (
            _with("react-hotpotqa", steps=[{"thought": "a", "action": "Jump[x]", "observation": ""}]),
            "steps[0].action: is no Search[...], Lookup[...] or Finish[...]",
        ),
        (_with("xlam", answers="[{"), "answers: no JSON"),
        (_with("xlam", answers='[{"arguments": {}}]'), "answers: a tool call's name: is missing"),
        (_with("xlam", tools='[{"name": "f"}, {"name": "f"}]'), "tools: two tools have the name 'f'"),
    ],
)  # fmt: skip
def test_a_row_of_another_kind_is_named(
    tmp_path: Path, case: tuple[FormatName, dict[str, Any]], words: str
) -> None:
    name, row = case
    with pytest.raises(ArtifactError) as caught:
        _convert(tmp_path, name, [GOOD[name][0], row])
    assert words in caught.value.what
    assert caught.value.where.endswith("rows.jsonl line 2")
    assert caught.value.remedy


def _variants(value: Any) -> Iterator[Any]:
    """The value with each of its parts, at any depth, replaced by something else or left out."""
    yield from (None, 1, -7.5, True, "x", "", "[1]", "{}", [], {}, [None], ["x"], [{}], {"x": 1})
    if isinstance(value, dict):
        for key in value:
            yield {name: item for name, item in value.items() if name != key}
            yield from (value | {key: part} for part in _variants(value[key]))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from ([*value[:index], part, *value[index + 1 :]] for part in _variants(value[index]))


@pytest.mark.parametrize("name", GOOD)
def test_no_row_ends_in_another_error(name: FormatName) -> None:
    refused = 0
    for row in _variants(GOOD[name][0]):
        if not isinstance(row, dict):
            continue
        try:
            parse_sample(FORMATS[name](row), "x")
        except (ValueError, LeftOut, ArtifactError):
            refused += 1
    assert refused > 15


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (_with("react-hotpotqa", steps=[{"thought": "a", "action": "Finish[x]", "observation": "reward = 0"}]), "wrong"),
        (_with("react-hotpotqa", steps=GOOD["react-hotpotqa"][0]["steps"][:1]), "no answer was reached"),
        (_with("toolrl", system=TOOLRL["system"].replace("Name: sum", "Name: Find River")), "two of its tools"),
    ],
)  # fmt: skip
def test_sound_rows_that_teach_nothing_are_left_out(
    case: tuple[FormatName, dict[str, Any]], reason: str
) -> None:
    with pytest.raises(LeftOut, match=reason):
        FORMATS[case[0]](case[1])


@pytest.mark.parametrize(
    "given",
    [
        "plain",
        '[{"title": "x"}]',
        '[{"title": "x"}, {"title": "y"}]',
        '[{"name": "area", "content": "1"}, {"name": "area"}]',
        "[1, 2]",
    ],
)
def test_results_that_are_no_list_of_the_calls_stay_one_text(given: str) -> None:
    message = {"role": "tool", "content": [{"type": "text", "value": given}]}
    messages = [*REASON["messages"][:3], message, REASON["messages"][4]]  # type: ignore[index]
    line = FORMATS["reason-tool-use"]({**REASON, "messages": messages})
    assert [item for item in line["messages"] if item["role"] == "tool"] == [
        {"role": "tool", "content": given}
    ]


def _convert(
    tmp_path: Path, name: FormatName, rows: list[Any], **settings: Any
) -> tuple[StageResult, Path, QuietReporter]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reporter = QuietReporter()
    config = ConvertConfig(format=name, data=[path], **settings)
    result = run_stage(CONVERT, config, out=tmp_path / "out", reporter=reporter, command=["nano2"]).result
    return result, tmp_path / "out" / "chat.jsonl", reporter


def test_the_artifact_holds_chat_jsonl(tmp_path: Path) -> None:
    rows = [GOOD["react-hotpotqa"][0]] * 2 + [{**GOOD["react-hotpotqa"][0], "steps": []}]
    result, path, reporter = _convert(tmp_path, "react-hotpotqa", rows)
    assert [sample.id for sample in read_chat(path)] == ["h", "h"]
    assert result.metrics == {
        "rows": 3, "samples": 2, "bad_rows": 0, "with_reasoning": 2, "with_tool_calls": 2, "with_grader": 0, "left_out": 1,
    }  # fmt: skip
    assert result.notes == ["1 rows left out: no answer was reached"] == reporter.messages
    assert json.loads((path.parent / "nano2.json").read_text())["kind"] == "dataset"


@pytest.mark.parametrize("name", GOOD)
def test_what_a_sample_has_is_told_and_thinking_is_off_without_reasoning(
    tmp_path: Path, name: FormatName
) -> None:
    result, path, _ = _convert(tmp_path, name, [GOOD[name][0]])
    [sample] = read_chat(path)
    assert result.metrics["with_grader"] == ("grader" in GOOD[name][1])
    reasons = "reasoning_content" in str(GOOD[name][1])
    assert sample.thinking is (None if reasons else False)


def test_bad_rows_may_be_left_out_each_named(tmp_path: Path) -> None:
    rows = [GOOD["dolly"][0], {"x": 1}, GOOD["dolly"][0], {"instruction": "a"}]
    result, path, reporter = _convert(tmp_path, "dolly", rows, skip_bad=2)
    assert len(list(read_chat(path))) == 2
    assert result.metrics["bad_rows"] == 2
    assert "rows.jsonl line 2: instruction: is missing" in reporter.warnings[0]
    assert "rows.jsonl line 4: output: is missing" in reporter.warnings[1]
    with pytest.raises(ArtifactError, match="line 4: output: is missing"):
        _convert(tmp_path / "again", "dolly", rows, skip_bad=1) if (
            tmp_path / "again"
        ).mkdir() is None else None


def test_gzip_and_directories(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(GOOD["dolly"][0]).encode()))
    (tmp_path / "in" / "b.jsonl").write_text(json.dumps(GOOD["dolly"][0]))
    config = ConvertConfig(format="dolly", data=[tmp_path / "in"])
    run_stage(CONVERT, config, out=tmp_path / "out", reporter=QuietReporter(), command=["nano2"])
    assert len(list(read_chat(tmp_path / "out" / "chat.jsonl"))) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "none of 0 rows gives a sample"), ("[1]", "line 1: is a JSON list"), ("{", "line 1: not JSON")],
)
def test_files_without_rows(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=words):
        run_stage(
            CONVERT,
            ConvertConfig(format="dolly", data=[path]),
            out=tmp_path / "out",
            reporter=QuietReporter(),
            command=["nano2"],
        )
    assert not (tmp_path / "out").exists()


def test_text_is_no_jsonl(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ArtifactError, match="is no jsonl"):
        run_stage(
            CONVERT,
            ConvertConfig(format="dolly", data=[tmp_path / "a.txt"]),
            out=tmp_path / "out",
            reporter=QuietReporter(),
            command=["nano2"],
        )
