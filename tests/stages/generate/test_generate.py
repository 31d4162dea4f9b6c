"""`nano2 generate` through the harness, and once as a process."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.errors import ArtifactError, UsageError
from model.inference.generation import Generator, Request
from model.loading import save
from model.tokenizer import copy_tokenizer, load_tokenizer
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageResult
from stages.generate.config import GenerateConfig
from stages.generate.stage import STAGE
from tests.forked import Forked
from tests.model.miniatures import miniature, randomized


@pytest.fixture(scope="module")
def artifact(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("models") / "base"
    directory.mkdir()
    copy_tokenizer(tokenizer_directory, directory)
    vocab = len(load_tokenizer(directory))
    save(randomized(miniature("M*-", vocab_size=vocab, max_position_embeddings=100)), directory)
    return directory


def run(reporter: QuietReporter | None = None, **settings: Any) -> StageResult:
    config = GenerateConfig.model_validate({"max_tokens": 12, **settings})
    return run_stage(
        STAGE, config, out=None, reporter=reporter or QuietReporter(), command=["nano2", "generate"]
    ).result


def test_text_is_shown_as_it_appears(artifact: Path) -> None:
    reporter = QuietReporter()
    result = run(reporter, model=artifact, prompt="Once upon")
    (completion,) = result.data["completions"]
    assert len(reporter.outputs) > 3
    assert "".join(map(str, reporter.outputs)) == completion["text"]
    assert completion["tokens"] == 12
    assert completion["finish_reason"] == "length"
    assert completion["logprob"] < 0
    assert result.data["tok_per_s"] > 0
    assert "tok/s" in reporter.messages[-1]


def test_the_seed_decides(artifact: Path) -> None:
    def texts(**settings: Any) -> list[str]:
        data = run(model=artifact, prompt="Once upon", temperature=1.0, **settings).data
        return [completion["text"] for completion in data["completions"]]

    assert texts(seed=4) == texts(seed=4) != texts(seed=5)
    assert texts(seed=4, n=2) == [*texts(seed=4), *texts(seed=5)]


def test_several_texts_are_shown_apart(artifact: Path) -> None:
    reporter = QuietReporter()
    result = run(reporter, model=artifact, prompt="Once", n=3)
    shown = [str(output).split("\n", 1) for output in reporter.outputs]
    assert [heading for heading, _ in shown] == [f"--- {number} of 3 ---" for number in (1, 2, 3)]
    assert [text for _, text in shown] == [completion["text"] for completion in result.data["completions"]]


def test_stop_strings(artifact: Path) -> None:
    whole = run(model=artifact, prompt="Once", temperature=0).data["completions"][0]["text"]
    stopped = run(model=artifact, prompt="Once", temperature=0, stop=[whole[5]]).data["completions"][0]
    assert stopped["text"] == whole[: whole.index(whole[5])]
    assert stopped["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("system", "thinking", "ending"),
    [
        ("Be brief.", True, "<think>\n"),
        ("/no_think", None, "<think></think>"),
        ("/think", None, "<think>\n"),
        ("/think", False, "<think></think>"),
    ],
)
def test_chat_goes_through_the_template(
    system: str, thinking: bool | None, ending: str, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    add = Generator.add

    def recorded(generator: Generator, request: Request) -> int:
        asked.append(request)
        return add(generator, request)

    monkeypatch.setattr(Generator, "add", recorded)
    run(model=artifact, prompt="Hi", chat=True, system=system, thinking=thinking)
    text = load_tokenizer(artifact).decode(asked[0].prompt_ids)
    assert text.endswith("<SPECIAL_11>User\nHi\n<SPECIAL_11>Assistant\n" + ending)
    assert 12 in asked[0].stop_ids


def test_the_thinking_is_closed_at_the_budget(artifact: Path) -> None:
    asked = {"model": artifact, "prompt": "Hi", "chat": True, "max_tokens": 40}
    result = run(**asked, thinking_budget=5, thinking_grace=3, n=2)
    for completion in result.data["completions"]:
        assert completion["thinking_closed_by"] == "budget"
        assert 5 <= completion["thinking_tokens"] <= 8
        assert "</think>\n\n" in completion["text"]
        assert completion["answer_tokens"] > 10
    (free,) = run(**asked).data["completions"]
    assert "thinking_tokens" not in free
    (unhurried,) = run(**asked, thinking_budget="1k").data["completions"]
    assert unhurried["text"] == free["text"]
    assert unhurried["logprob"] == free["logprob"]


def test_a_budget_without_thinking_is_refused(artifact: Path) -> None:
    """The messages turned it off, which the settings alone do not show."""
    with pytest.raises(UsageError, match="does not end inside of the thinking"):
        run(model=artifact, prompt="Hi", chat=True, system="/no_think", thinking_budget=5)


def test_the_prompt_comes_from_file_or_stdin(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(model=artifact, prompt="Once\nupon", temperature=0).data
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"Once\nupon\n")
    assert run(model=artifact, prompt_file=file, temperature=0).data["completions"] == expected["completions"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Once\nupon\n")))
    assert run(model=artifact, temperature=0).data["completions"] == expected["completions"]


def test_the_begin_of_text_token_alone_is_a_prompt(artifact: Path) -> None:
    assert run(model=artifact, prompt="<s>").data["prompt_tokens"] == 1


def test_more_than_the_config_says_is_warned_of(artifact: Path) -> None:
    reporter = QuietReporter()
    assert run(reporter, model=artifact, prompt="word " * 100).data["tokens"] == 12
    assert len(reporter.warnings) == 1
    assert "the config says 100" in reporter.warnings[0]


def test_prompts_that_cannot_be_used(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the prompt is empty"):
        run(model=artifact, prompt="")
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"caf\xe9")
    with pytest.raises(ArtifactError, match="cannot be read"):
        run(model=artifact, prompt_file=broken)
    with pytest.raises(ArtifactError, match="cannot be read"):
        run(model=artifact, prompt_file=tmp_path / "missing")


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt": "a", "prompt_file": "b"},
        {"prompt": "a", "system": "b"},
        {"prompt": "a", "thinking": True},
        {"prompt": "a", "thinking_budget": 5},
        {"prompt": "a", "chat": True, "thinking": False, "thinking_budget": 5},
        {"prompt": "a", "chat": True, "thinking_grace": 5},
        {"prompt": "a", "chat": True, "thinking_budget": -1},
        {"prompt": "a", "chat": True, "thinking_budget": 1, "thinking_grace": -1},
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], artifact: Path) -> None:
    with pytest.raises(ValidationError):
        GenerateConfig.model_validate({"model": artifact, **settings})


def test_as_a_command_stdout_is_the_text_alone(artifact: Path) -> None:
    command = ["generate", "-m", artifact, "--prompt", "Once upon", "--max-tokens", 6]
    plain, asked = Forked(*command), Forked(*command, "--json")
    assert (plain.wait(), asked.wait()) == (0, 0)
    (stdout, stderr), (answer, _) = plain.communicate(), asked.communicate()
    text = json.loads(answer.splitlines()[-1])["data"]["completions"][0]["text"]
    assert stdout == text + ("" if text.endswith("\n") else "\n")
    assert "tok/s" in stderr
