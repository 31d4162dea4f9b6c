"""Pairs from a model artifact: a tiny one that was taught to answer with a pair, and one that babbles."""

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from model.artifact.provenance import read_provenance
from model.chat.template import encode
from model.errors import ArtifactError, InterruptedRunError
from model.hybrid import HybridLM
from model.inference.generation import Generator
from model.loading import save
from model.tokenizer import copy_tokenizer, load_tokenizer
from stages.data.longqa.kept_pairs import FILE
from stages.data.longqa.wording import PROMPT
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import WORDS, write_jsonl
from tests.stages.data.longqa.conftest import Longqa

REPLY = '{"question": "What turns?", "answer": "mill"}'
CHUNK = 32


def tale(number: int, words: int) -> str:
    """Every third word is "mill", so that the one answer stands in every chunk."""
    rng = random.Random(number)
    return " ".join("mill" if place % 3 == 0 else rng.choice(WORDS) for place in range(words)) + "\n"


def _write(lm: HybridLM, directory: Path, tokenizer_directory: Path) -> Path:
    directory.mkdir()
    save(lm, directory)
    copy_tokenizer(tokenizer_directory, directory)
    return directory


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    """A model that replies to every prompt of the stage with `REPLY`."""
    torch.manual_seed(0)
    config = miniature("M-*-", vocab_size=512, hidden_size=64, max_position_embeddings=2048)
    lm = HybridLM(config)
    tokenizer = load_tokenizer(tokenizer_directory, 512)
    reply = tokenizer(REPLY, add_special_tokens=False)["input_ids"] + [12]
    optimizer = torch.optim.AdamW(lm.parameters(), lr=3e-3)
    for step in range(300):
        excerpt = tale(1000 + step, 12)
        messages = [{"role": "user", "content": PROMPT.format(excerpt=excerpt)}]
        prompt = encode(tokenizer, messages, thinking=False, add_generation_prompt=True).ids
        ids_1T = torch.tensor([[*prompt[-200:], *reply]])
        logits_TV = lm(ids_1T).logits[0, -len(reply) - 1 : -1]
        loss = cross_entropy(logits_TV, torch.tensor(reply))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.003:
            break
    assert loss < 0.01, step
    return _write(lm.eval(), tmp_path_factory.mktemp("models") / "taught", tokenizer_directory)


@pytest.fixture(scope="module")
def babbling(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    lm = randomized(miniature("M*", vocab_size=512, max_position_embeddings=2048))
    return _write(lm, tmp_path_factory.mktemp("models") / "babbling", tokenizer_directory)


@pytest.fixture
def settings(taught: Path) -> dict[str, Any]:
    return {
        "writer": "model",
        "model": taught,
        "device": "cpu",
        "min_tokens": 64,
        "chunk_tokens": CHUNK,
        "share": 0.5,
        "temperature": 0,
        "reply_tokens": 60,
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "d.jsonl", [tale(1, 300), "short", tale(2, 100)])


def test_the_models_pairs_stand_behind_the_documents(
    longqa: Longqa, data: Path, settings: dict[str, Any]
) -> None:
    result, rows = longqa.run(data, **settings)
    assert (
        result.metrics["pairs"]
        == result.metrics["sampled_chunks"]
        == sum(len(row["pairs"]) for row in rows)
        > 5
    )
    assert [row["text"][: row["document_characters"]] for row in rows] == [tale(1, 300), tale(2, 100)]
    for row in rows:
        assert row["writer"] == "model"
        assert row["text"].endswith("\n\nQ: What turns?\nA: mill\n")
        assert (
            row["text"].count("\n\nQ: What turns?\nA: mill") == len(row["pairs"]) == round(row["chunks"] / 2)
        )
    assert not longqa.reporter.warnings
    provenance = read_provenance(longqa.root / "out")
    assert provenance is not None
    assert "model" in [parent.kind for parent in provenance.parents]


def test_how_many_are_written_at_a_time_changes_nothing(
    longqa: Longqa, data: Path, settings: dict[str, Any]
) -> None:
    contents = []
    for concurrency in (1, 3):
        name = f"out{concurrency}"
        longqa.run(
            data,
            name=name,
            **settings | {"concurrency": concurrency, "temperature": 0.2, "max_failed_share": 1},
        )
        contents.append((longqa.root / name / "documents.jsonl").read_bytes())
    assert contents[0] == contents[1]


def test_a_model_that_babbles_ends_the_run_with_the_reason(
    longqa: Longqa, data: Path, settings: dict[str, Any], babbling: Path
) -> None:
    with pytest.raises(ArtifactError, match=r"got no usable pair: .*the reply") as raised:
        longqa.run(data, **settings | {"model": babbling, "reply_tokens": 16})
    assert raised.value.where == str(babbling)
    assert not (longqa.root / "out").exists()
    assert not (longqa.root / "out.run").exists()
    with pytest.raises(ArtifactError, match="not one pair for 2 documents"):
        longqa.run(data, **settings | {"model": babbling, "reply_tokens": 16, "max_failed_share": 1})


def test_an_interruption_keeps_the_pairs_that_are_there(
    longqa: Longqa, data: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = longqa.run(data, name="whole", **settings)
    steps = 0
    step = Generator.step

    def step_and_signal(self: Generator) -> Any:
        nonlocal steps
        steps += 1
        if steps == 40:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    monkeypatch.setattr(Generator, "step", step_and_signal)
    with pytest.raises(InterruptedRunError, match="pairs kept"):
        longqa.run(data, **settings | {"concurrency": 2})
    kept = len((longqa.root / "out.run" / FILE).read_text().splitlines())
    assert 0 < kept < whole.metrics["pairs"]
    steps = 1000
    longqa.run(data, **settings | {"concurrency": 2})
    assert (longqa.root / "out/documents.jsonl").read_bytes() == (
        longqa.root / "whole/documents.jsonl"
    ).read_bytes()
    assert f"{kept} pairs are there from before" in longqa.reporter.messages


def test_a_prompt_that_is_too_long_for_the_model_is_said_once(
    longqa: Longqa, data: Path, settings: dict[str, Any]
) -> None:
    longqa.run(data, **settings | {"reply_tokens": 2000})
    assert (
        len([message for message in longqa.reporter.warnings if "the model's config says 2048" in message])
        == 1
    )


def test_what_is_no_model_is_refused(longqa: Longqa, data: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"no config\.json"):
        longqa.run(data, **settings | {"model": longqa.tokenizer})
    with pytest.raises(ArtifactError, match="no such file"):
        longqa.run(data, **settings | {"model": longqa.root / "nothing"})
