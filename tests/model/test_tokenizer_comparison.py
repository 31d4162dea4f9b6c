"""The first thing in which two tokenizers differ, and what is no difference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.errors import ArtifactError
from model.tokenizer_comparison import tokenizer_difference
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("one")
    save_tokenizer(train_tokenizer(iter(["a text of words, and words of text"] * 9), 320), directory)
    return directory


@pytest.fixture
def other(one: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(one, tmp_path / "other"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def swap_two(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]


def test_equal_and_none(one: Path, other: Path, tmp_path: Path) -> None:
    assert tokenizer_difference(one, other) is None
    assert tokenizer_difference(tmp_path, tmp_path) is None


def test_layout_lengths_and_names_are_no_difference(one: Path, other: Path) -> None:
    edit(other / "tokenizer.json", lambda content: content.update(padding={"direction": "Left"}))
    edit(
        other / "tokenizer_config.json", lambda content: content.update(model_max_length=7, name_or_path="x")
    )
    edit(other / "tokenizer_config.json", lambda content: content.update(bos_token={"content": "<s>"}))
    edit(other / "tokenizer_config.json", lambda content: content.pop("add_eos_token"))
    template = (other / "chat_template.jinja").read_text()
    (other / "chat_template.jinja").unlink()
    edit(other / "tokenizer_config.json", lambda content: content.update(chat_template=template))
    assert tokenizer_difference(one, other) is None


@pytest.mark.parametrize(
    ("file", "change", "place", "here", "there"),
    [
        ("tokenizer.json", swap_two, "model: vocab: a", "96", "97"),
        ("tokenizer.json", lambda content: content["model"]["merges"].pop(), "model: merges: ", "", "absent"),
        (
            "tokenizer.json",
            lambda content: content["added_tokens"][3].update(content="<new>"),
            "added_tokens: 3: content",
            '"<SPECIAL_3>"',
            '"<new>"',
        ),
        (
            "tokenizer_config.json",
            lambda content: content.update(add_bos_token=False),
            "add_bos_token",
            "true",
            "absent",
        ),
        (
            "tokenizer_config.json",
            lambda content: content.pop("eos_token"),
            "eos_token",
            '"</s>"',
            "absent",
        ),
    ],
)
def test_differences(
    file: str,
    change: Callable[[dict[str, Any]], None],
    place: str,
    here: str,
    there: str,
    one: Path,
    other: Path,
) -> None:
    edit(other / file, change)
    said = tokenizer_difference(one, other)
    assert said is not None
    assert place in said
    assert f" is {here}" in said
    assert f" in {one} and {there} in {other}" in said


def test_a_template_of_another_line(one: Path, other: Path) -> None:
    path = other / "chat_template.jinja"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "{# new #}", *lines[3:]]))
    said = tokenizer_difference(one, other)
    assert said is not None
    assert said.startswith("line 3 of the chat template is ")
    assert said.endswith(f'and "{{# new #}}" in {other}')


def test_a_tokenizer_on_one_side_alone(one: Path, tmp_path: Path) -> None:
    assert (
        tokenizer_difference(one, tmp_path) == f"tokenizer.json is present in {one} and absent in {tmp_path}"
    )


def test_a_damaged_file(one: Path, other: Path) -> None:
    (other / "tokenizer.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"other/tokenizer\.json: is not JSON"):
        tokenizer_difference(one, other)
