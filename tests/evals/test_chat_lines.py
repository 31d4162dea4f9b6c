"""Reading chat jsonl: what is accepted, and each kind of broken line with its place and field."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from evals.chat_lines import ChatSample, parse_sample, read_chat
from model.errors import ArtifactError
from tests.model.chat.builders import assistant, call, calls, result, user

GOOD = {"messages": [user(), assistant()]}


def _read(tmp_path: Path, *lines: Any) -> list[ChatSample]:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return list(read_chat(path))


@pytest.mark.parametrize(
    "line",
    [
        GOOD,
        {
            "messages": [{"role": "system", "content": ""}, user([{"type": "text", "text": "a"}]), assistant()],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}, {"name": "g"}],
            "thinking": False,
            "id": "x",
            "metadata": {"a": [1, None]},
        },
        {"messages": [user(), calls(call("f", {"a": 1}, id="1"), call("g", " ", id="2")),
                      result({"b": 2}, tool_call_id="1", name="f"), result(tool_call_id="2"), assistant("")]},
        {"messages": [user(), assistant("4", reasoning="r"), user(), assistant(reasoning_content="s")]},
        {"prompt": "Once", "completion": " upon"},
        {"prompt": [user()], "completion": [assistant()], "tools": []},
        {"prompt": [user()]},
        {"messages": [user()]},
        {**GOOD, "grader": {"name": "math", "answer": "1/2"}},
    ],
)  # fmt: skip
def test_a_good_line_is_read_as_it_is(tmp_path: Path, line: dict[str, Any]) -> None:
    [sample] = _read(tmp_path, line)
    assert sample.place == f"{tmp_path / 'a.jsonl'} line 1"
    assert sample.id == line.get("id")
    assert sample.tools == line.get("tools")
    messages = line.get("messages") or [
        message
        for key in ("prompt", "completion")
        if isinstance(line.get(key), list)
        for message in line[key]
    ]
    assert [message.role for message in sample.conversation] == [message["role"] for message in messages]


def test_places_blank_lines_and_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + f"{json.dumps(GOOD)}\n\n{json.dumps(GOOD)}".encode()))
    assert [sample.place[-6:] for sample in read_chat(path)] == ["line 1", "line 3"]


def test_text_parts_are_one_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    [sample] = _read(tmp_path, {"messages": [user(parts), assistant()]})
    assert sample.conversation[0].text == "ab"


def test_a_number_as_id_is_its_text(tmp_path: Path) -> None:
    assert _read(tmp_path, {**GOOD, "id": 7})[0].id == "7"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({}, "has no messages"),
        ({"messages": []}, "messages: is empty"),
        ({"messages": "x"}, "messages: should be a valid list, not 'x'"),
        ({"messages": ["hi"]}, "messages[0]: should be a valid dictionary"),
        ({**GOOD, "extra": 1}, "extra: is an unknown key"),
        ({**GOOD, "prompt": "x"}, "has both messages and prompt"),
        ({**GOOD, "thinking": "yes"}, "thinking: should be a valid boolean, not 'yes'"),
        ({**GOOD, "thinking": 1}, "thinking: should be a valid boolean, not 1"),
        ({**GOOD, "id": True}, "id: should be a valid string, not True"),
        ({**GOOD, "metadata": [1]}, "metadata: should be a valid dictionary, not [1]"),
        ({**GOOD, "metadata": {"a": [0, float("nan")]}}, "metadata.a[1]: is nan, which is no JSON"),
        ({**GOOD, "grader": {}}, "grader: it has no name"),
        ({**GOOD, "grader": {"name": "taste"}}, "grader: unknown grader 'taste'"),
        ({**GOOD, "grader": {"name": "math"}}, "grader 'math': answer"),
        ({**GOOD, "grader": {"name": "math", "answer": "4", "x": 1}}, "grader 'math': x"),
        ({**GOOD, "grader": "math"}, "grader: should be a valid dictionary, not 'math'"),
        ({**GOOD, "tools": {}}, "tools: should be a valid list, not {}"),
        ({**GOOD, "tools": [{"function": 3}]}, "tools[0]: function is no JSON object"),
        ({**GOOD, "tools": [{"function": {}}]}, "tools[0]: has no name"),
        ({**GOOD, "tools": [{"name": "f"}, 3]}, "tools[1]: is no JSON object"),
        ({**GOOD, "tools": [{"name": "f", "parameters": 3}]}, "tools[0]: parameters is no JSON object"),
        ({**GOOD, "tools": [{"type": "search", "name": "f"}]}, "tools[0]: has the type 'search'"),
        ({**GOOD, "tools": [{"name": "f"}, {"function": {"name": "f"}}]}, "tools: two tools have the name 'f'"),
        ({"prompt": "x"}, "completion: is missing"),
        ({"completion": [assistant()]}, "prompt: is missing"),
        ({"prompt": 3, "completion": "x"}, "prompt: should be a valid list, not 3"),
        ({"prompt": "x", "completion": [assistant()]}, "completion: prompt and completion are not both"),
        ({"prompt": "x", "completion": " \n"}, "completion: is empty"),
        ({"prompt": "x", "completion": "y", "thinking": True}, "thinking: plain text has none"),
        ({"prompt": "x", "completion": "y", "tools": []}, "tools: plain text has none"),
        ({"prompt": [user(0)], "completion": []}, "prompt[0].content: is neither text nor a list"),
        ({"prompt": [user()], "completion": [result()]}, "prompt+completion[1].role: a tool result without"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role: should be 'system', 'user'"),
        ({"messages": [{"content": "x"}]}, "messages[0].role: is missing"),
        ({"messages": [user(), assistant(refusal="no")]}, "messages[1].refusal: is an unknown key"),
        ({"messages": [user([{"type": "image_url"}])]}, 'messages[0].content: part 0 is not {"type": "text"'),
        ({"messages": [user([{"type": "text", "text": "a", "x": 1}])]}, "part 0 has the unknown key 'x'"),
        ({"messages": [user("")]}, "messages[0].content: is empty"),
        ({"messages": [user(None)]}, "messages[0].content: is missing"),
        ({"messages": [user({"a": 1})]}, "messages[0].content: is a JSON object; only a tool result"),
        ({"messages": [user("a\ud83d")]}, "messages[0].content: has half of a surrogate pair"),
        ({"messages": [user(), assistant(None)]}, "messages[1].content: is missing, and there are no tool_calls"),
        ({"messages": [user(), assistant(reasoning=["x"])]}, "messages[1].reasoning: should be a valid string"),
        ({"messages": [user(), assistant(reasoning="a", reasoning_content="b")]}, "messages[1].reasoning: differs"),
        ({"messages": [{**user(), "reasoning": "a"}]}, "messages[0].reasoning: a user message has none"),
        ({"messages": [{**user(), "tool_call_id": "a"}]}, "messages[0].tool_call_id: a user message has none"),
        ({"messages": [user(), {"role": "system", "content": "x"}]}, "messages[1].role: a system message that"),
        ({"messages": [user(), calls(call(""))]}, "messages[1].tool_calls[0].function.name: "),
        ({"messages": [user(), calls(call(), call(7))]}, "messages[1].tool_calls[1].function.name: should be"),
        ({"messages": [user(), calls(call("f", "{"))]}, "messages[1].tool_calls[0].function.arguments: is no JSON"),
        ({"messages": [user(), calls(call("f", '{"a": NaN}'))]}, "function.arguments: is no JSON (NaN is no JSON)"),
        ({"messages": [user(), calls(call("f", "[1]"))]}, "function.arguments: is the text of a JSON list"),
        ({"messages": [user(), calls(call("f", None))]}, "function.arguments: is neither a JSON object nor"),
        ({"messages": [user(), calls({"name": "f", "arguments": {}})]}, "messages[1].tool_calls[0].name: is an"),
        ({"messages": [user(), calls(call(id="a"), call(id="a"))]}, "messages[1].tool_calls: two calls have one id"),
        ({"messages": [user(), result()]}, "messages[1].role: a tool result without a tool call"),
        ({"messages": [user(), calls(call()), result(), result()]}, "messages[3].role: 2 tool results for 1"),
        ({"messages": [user(), calls(call(id="a")), result(tool_call_id="b")]}, "no call has the id 'b'"),
        (
            {"messages": [user(), calls(call(id="a"), call(id="b")), result(tool_call_id="b")]},
            "messages[2].tool_call_id: the results are not in the order of the calls",
        ),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_with_file_line_and_field(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        _read(tmp_path, GOOD, line, GOOD)
    assert caught.value.where == f"{tmp_path / 'a.jsonl'} line 2"
    assert message in caught.value.what
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_broken_files(tmp_path: Path) -> None:
    for name, content, words in (
        ("a.jsonl", b'{"messages": [', "line 1: not JSON"),
        ("b.jsonl", b"[]", "line 1: is a JSON list"),
        ("c.jsonl.gz", gzip.compress(json.dumps(GOOD).encode())[:-9], "damaged or cut short"),
        ("d.json", b"{}", "is no chat jsonl"),
        ("g.jsonl", b"[" * 200_000, "line 1: not JSON"),
        ("e.jsonl", b'{"id": ' + b"9" * 5000 + b"}", "line 1: not JSON"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError, match=words) as caught:
            list(read_chat(tmp_path / name))
        assert name in caught.value.where
    with pytest.raises(ArtifactError, match="cannot be read"):
        list(read_chat(tmp_path / "missing.jsonl"))


def test_what_is_nested_too_deeply_to_be_written_again() -> None:
    nested: Any = 1
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ArtifactError, match="line 1: is nested too deeply"):
        parse_sample({**GOOD, "metadata": {"a": nested}}, "a.jsonl line 1")
