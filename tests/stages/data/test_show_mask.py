"""`nano2 data show --mask`: what is trained, and why a sample would be refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.chat_lines import read_chat
from model.errors import ArtifactError, UsageError
from stages.common.config import WeightedPath
from stages.common.data.chat.encoding import encode_sample
from stages.common.data.chat.rows import prepare_chat
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.reporter import QuietReporter
from tests.model.chat.builders import assistant, call, calls, result, user
from tests.stages.common.data.helpers import story, write_jsonl
from tests.stages.data.test_show import _show

GOOD = [
    {"messages": [user("1+1?"), assistant("2", reasoning="One and one."), user("ping"), assistant("pong")]},
    {"messages": [user("go"), calls(call("f")), result("done"), assistant("ok")]},
    {"prompt": "the river", "completion": " bends"},
]


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_ids_mask_and_tokens_are_those_of_training(tmp_path: Path, tokenizer_directory: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD)
    shown, _ = _show(path, mask=True, tokenizer=tokenizer_directory, rows=9)
    tokenizer = ChatTokenizer.open(tokenizer_directory)
    expected = [item for sample in read_chat(path) for item in encode_sample(tokenizer, sample)]
    rows = shown.data["rows"]
    assert [row["place"] for row in rows] == [item.place for item in expected]
    for row, item in zip(rows, expected, strict=True):
        assert row["input_ids"] == item.ids.tolist()
        assert [int(in_loss) for in_loss in row["in_loss"]] == item.mask.tolist()
        assert "".join(row["tokens"]) == tokenizer.chat.decode(item.ids)
        assert "refused" not in row
    trained = sum(int(item.mask.sum()) for item in expected)
    assert shown.metrics["samples_measured"] == 3
    assert shown.metrics["documents_measured"] == 4
    assert shown.metrics["refused"] == 0
    assert shown.metrics["trained_tokens"] == trained
    assert shown.metrics["trained_share"] == trained / sum(len(item.ids) for item in expected)
    assert shown.notes == []


def test_without_colour_what_is_trained_stands_in_brackets(tmp_path: Path, tokenizer_directory: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD)
    _, printed = _show(path, mask=True, tokenizer=tokenizer_directory, rows=9)
    plain = printed.replace("|", "")
    assert (
        "<think>\\n\n[+One and one.\\n\n</think>\\n\n\\n\n2\\n\n<SPECIAL_12>+]\\n\n" in plain
    )  # not the prefill, and not the line end behind the turn
    assert (
        '<think></think>[+<TOOLCALL>[{"name": "f", "arguments": {}}]</TOOLCALL>\\n\n<SPECIAL_12>+]\\n\n'
        in plain
    )
    assert "<s>the river[+ bends</s>+]" in plain
    assert "a.jsonl line 1 episode 1: " in plain
    assert "trained (" in plain


def test_in_colour_what_is_trained_is_on_green(tmp_path: Path, tokenizer_directory: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD[2:])
    _, printed = _show(path, mask=True, tokenizer=tokenizer_directory, colour=True)
    assert "[+" not in printed
    before, trained = printed.split("lengths of")[0].split("\x1b[1;30;48;5;")  # the stop token is bold, too
    assert "\x1b[2;48;5;237m<s>" in before
    assert "\x1b[30;48;5;41m bends" in before
    assert trained.startswith(("40m</s>", "41m</s>", "34m</s>"))


def test_every_kind_of_refusal_is_shown_once_with_its_reason(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    lines = [
        *GOOD,
        {"messages": [user("a"), assistant("")]},
        {"messages": [user(3)]},
        {"messages": [user("b"), assistant("")]},
        {"messages": [user("a")]},
    ]
    path = write(tmp_path / "a.jsonl", lines)
    shown, printed = _show(path, mask=True, tokenizer=tokenizer_directory, rows=1)
    refused = {row["place"][-6:]: row["refused"] for row in shown.data["rows"] if "refused" in row}
    assert {place: item["what"] for place, item in refused.items()} == {
        "line 4": "message 2: the assistant's turn has neither an answer nor a tool call",
        "line 5": "messages[0].content: is neither text nor a list of text parts",
        "line 7": "has no assistant turn to train on",
    }
    assert all(item["remedy"] for item in refused.values())
    assert shown.metrics["refused"] == 4
    assert shown.notes[0] == (
        "refused: 2 times: message 2: the assistant's turn has neither an answer nor a tool call"
    )
    assert "refused: has no assistant turn to train on\nnext: repair or remove the line" in printed


def test_nothing_but_broken_lines(tmp_path: Path, tokenizer_directory: Path) -> None:
    shown, _ = _show(write(tmp_path / "a.jsonl", [{}]), mask=True, tokenizer=tokenizer_directory)
    assert shown.metrics["refused"] == shown.metrics["samples_measured"] == 1
    assert shown.metrics["trained_share"] == 0.0
    assert "longest" not in shown.metrics
    assert shown.data["rows"][0]["refused"]["what"] == "has no messages"


def test_a_broken_template_is_shown_with_the_tokens(tmp_path: Path, tokenizer_directory: Path) -> None:
    directory = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_directory, directory)
    template = directory / "chat_template.jinja"
    good = template.read_text()
    path = write(tmp_path / "a.jsonl", GOOD[1:2])

    template.write_text(good.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", ""))
    shown, _ = _show(path, mask=True, model=directory)
    assert "no {% generation %} markers" in shown.data["rows"][0]["refused"]["what"]
    assert "<TOOLCALL>" in shown.data["rows"][0]["tokens"]
    assert not any(shown.data["rows"][0]["in_loss"])
    assert any("the chat template is refused" in note for note in shown.notes)

    template.write_text(good.replace("{%- if tools -%}", "{%- if false -%}"))
    shown, _ = _show(path, mask=True, model=directory)
    assert "refused" not in shown.data["rows"][0]  # this sample has no tools
    assert shown.notes[0].startswith(
        "the chat template is refused: the chat template leaves out the list of tools"
    )


def test_long_stretches_that_are_not_trained_are_cut(tmp_path: Path, tokenizer_directory: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": [user(story(1, 900)), assistant("the end")]}])
    shown, printed = _show(path, mask=True, tokenizer=tokenizer_directory)
    count = len(shown.data["rows"][0]["input_ids"])
    assert count > 900
    trained = shown.data["rows"][0]["in_loss"].index(True)
    assert f"[... {trained - 200} tokens ...]" in printed
    assert "more tokens]" not in printed
    assert "+]" in printed


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    root = tmp_path_factory.mktemp("packed")
    path = write(root / "chats.jsonl", GOOD * 5)
    (root / "out").mkdir()
    settings = ChatDataSettings(seq_len=256, strip_traces=0, validation_fraction=0)
    source = WeightedPath.model_validate(str(path))
    prepare_chat([source], tokenizer_directory, settings, root / "out", QuietReporter())
    return root / "out"


def test_a_packed_dataset_with_masks(packed: Path) -> None:
    shown, printed = _show(packed, mask=True, rows=99)
    [source] = shown.rows
    trained = sum(sum(row["in_loss"]) for row in shown.data["rows"])
    assert source["trained"] == trained / source["tokens"]
    assert 0.1 < source["trained"] < 0.5
    assert "-- document 1 --" in printed
    assert printed.count("[+") == printed.count("+]") == 5 * (2 + 2 + 1)
    for row in shown.data["rows"]:
        text = "".join(token for token, in_loss in zip(row["tokens"], row["in_loss"], strict=True) if in_loss)
        assert "User" not in text
    without_mask, printed = _show(packed, rows=99)
    assert without_mask.data["rows"] == shown.data["rows"]
    assert "[+" not in printed


def test_a_packed_dataset_without_masks_says_so(tmp_path: Path, tokenizer_directory: Path) -> None:
    from stages.common.harness import run_stage
    from stages.data.prepare.config import PrepareConfig
    from stages.data.stage import PREPARE

    text = write_jsonl(tmp_path / "a.jsonl", [story(number, 12) for number in range(20)])
    config = PrepareConfig(data=[str(text)], tokenizer=tokenizer_directory, seq_len=128, workers=1)
    run_stage(PREPARE, config, out=tmp_path / "out", reporter=QuietReporter(), command=["nano2"])
    shown, printed = _show(tmp_path / "out", mask=True, rows=1, source="a")
    assert shown.notes == ["the dataset has no loss masks: every next token of a document is trained"]
    assert "trained" not in shown.rows[0]
    assert "<s>|[+" in printed


def test_refusals(tmp_path: Path, tokenizer_directory: Path, packed: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(UsageError, match="needs a tokenizer"):
        _show(path, mask=True)
    with pytest.raises(UsageError, match="two tokenizers are given"):
        _show(path, mask=True, tokenizer=tokenizer_directory, model=tokenizer_directory)
    with pytest.raises(UsageError, match="has its own tokenizer") as caught:
        _show(packed, mask=True, model=tokenizer_directory)
    assert caught.value.remedy == "leave out --model"
    with pytest.raises(UsageError, match="only a packed dataset has sources"):
        _show(path, mask=True, tokenizer=tokenizer_directory, source="a")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ArtifactError, match="is no chat jsonl"):
        _show(tmp_path / "a.txt", mask=True, tokenizer=tokenizer_directory)
    (tmp_path / "b.jsonl").write_text("{")
    with pytest.raises(ArtifactError, match=r"b.jsonl line 1: not JSON"):
        _show(tmp_path / "b.jsonl", mask=True, tokenizer=tokenizer_directory)
