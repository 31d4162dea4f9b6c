import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer

from model.artifact.hashing import content_hash
from model.artifact.provenance import read_provenance
from model.chat.special_tokens import SPECIAL_TOKENS
from model.errors import ArtifactError, UsageError
from stages.common.data.sources import Source
from stages.common.harness import run_stage
from stages.common.reporter import QuietProgressBar, QuietReporter
from stages.common.stage import StageResult
from stages.data.stage import TOKENIZER
from stages.data.tokenizer.config import TokenizerConfig
from stages.data.tokenizer.run import Passages
from tests.stages.common.data.helpers import story, write_jsonl


def _run(out: Path, reporter: QuietReporter | None = None, **settings: Any) -> StageResult:
    config = TokenizerConfig(**settings)
    return run_stage(
        TOKENIZER, config, out=out, reporter=reporter or QuietReporter(), command=["nano2"]
    ).result


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 700 kB, enough for passages to be held out."""
    directory = tmp_path_factory.mktemp("corpus")
    return write_jsonl(directory / "stories.jsonl", [story(number, 600) for number in range(200)])


@pytest.fixture(scope="module")
def backend(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tokenizer_directory / "tokenizer.json"))


@given(st.text())
@example(
    "</s><think>\n\n  \t x\u0000\u00a0\u2028\u200d\U0001f468\u200d\U0001f469 e\u0301 é ﬁ 12345 camelCaseHTTP don't\r\n\r"
)
def test_any_text_comes_back_exactly(backend: Tokenizer, text: str) -> None:
    assert (
        backend.decode(backend.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text
    )


@given(st.binary())
def test_any_bytes_that_are_text_come_back_exactly(backend: Tokenizer, data: bytes) -> None:
    text = data.decode("utf-8", errors="ignore") + data.decode("latin-1")
    assert (
        backend.decode(backend.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text
    )


def test_special_tokens_and_bytes_have_their_ids(backend: Tokenizer) -> None:
    assert [backend.id_to_token(index) for index in range(32)] == [token.name for token in SPECIAL_TOKENS]
    flags = {index: token.special for index, token in backend.get_added_tokens_decoder().items()}
    assert flags == {token.id: token.special for token in SPECIAL_TOKENS}
    alphabet = {backend.id_to_token(index) for index in range(32, 32 + 256)}
    assert all(len(character) == 1 for character in alphabet)
    assert len(alphabet) == 256


def _pieces(backend: Tokenizer, text: str) -> list[str]:
    return [text[start:end] for _, (start, end) in backend.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("x = 12345.6", ["x", " =", " ", "1", "2", "3", "4", "5", ".", "6"]),
        ("camelCase HTTPServer MAX", ["camel", "Case", " HTTPServer", " MAX"]),
        ("don't (stop)", ["don", "'t", " (", "stop", ")"]),
        ("a\n\n    b", ["a", "\n\n", "   ", " b"]),
        ("été naïve", ["été", " naïve"]),
        ("}\n", ["}\n"]),
    ],
)
def test_text_is_split_at_words_digits_and_lines(backend: Tokenizer, text: str, pieces: list[str]) -> None:
    assert _pieces(backend, text) == pieces


def test_transformers_loads_it_and_agrees(tokenizer_directory: Path, backend: Tokenizer) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer_directory)
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id, loaded.unk_token_id) == (
        1,
        2,
        0,
        0,
    )
    assert len(loaded) == backend.get_vocab_size()
    text = "<SPECIAL_11>User\nhi<think>a</think></s>"
    ids = loaded(text).input_ids
    assert ids == backend.encode(text).ids
    assert ids[0] == 1
    assert ids[-1] == 2
    assert loaded.decode(ids) == "<s>" + text
    assert loaded.decode(ids, skip_special_tokens=True) == "User\nhi<think>a</think>"
    chat = loaded.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert "<SPECIAL_11>Assistant" in chat
    assert json.loads((tokenizer_directory / "special_tokens_map.json").read_text())["eos_token"] == "</s>"


def test_artifact_and_compression(corpus: Path, tmp_path: Path) -> None:
    result = _run(tmp_path / "out", data=[str(corpus)], vocab_size=380)
    provenance = read_provenance(tmp_path / "out")
    assert provenance is not None
    assert provenance.kind == "tokenizer"
    assert result.metrics["vocab_size"] == 380
    assert result.metrics["bytes_per_token"] > 2
    # Every 64th passage is held out.
    share = result.metrics["measured_bytes"] / (
        result.metrics["training_bytes"] + result.metrics["measured_bytes"]
    )
    assert share == pytest.approx(1 / 64, rel=0.3)
    given = _run(tmp_path / "given", data=[str(corpus)], vocab_size=380, validation=str(corpus))
    assert given.metrics["measured_bytes"] == given.metrics["training_bytes"]
    assert [row["source"] for row in given.rows] == ["stories"]


@pytest.mark.parametrize("threads", [1, 4])
def test_same_tokenizer_whatever_the_threads(corpus: Path, tmp_path: Path, threads: int) -> None:
    _run(tmp_path / "here", data=[str(corpus)], vocab_size=390)
    script = (
        "import sys; from pathlib import Path; from tests.stages.data.test_tokenizer import _run; "
        "_run(Path(sys.argv[2]), data=[sys.argv[1]], vocab_size=390)"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(threads)}
    subprocess.run(
        [sys.executable, "-c", script, str(corpus), str(tmp_path / "there")],
        check=True,
        env=environment,
        timeout=120,
    )
    assert content_hash(tmp_path / "here") == content_hash(tmp_path / "there")


def test_a_small_text_gives_fewer_tokens_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "small.txt"
    path.write_text("the cat sat on the mat, the cat sat")
    reporter = QuietReporter()
    result = _run(tmp_path / "out", reporter, data=[str(path)], vocab_size=2000)
    assert result.metrics["vocab_size"] < 320
    assert "fewer than asked" in reporter.warnings[0]
    assert any("training text" in note for note in result.notes)


@pytest.mark.parametrize("text", ["", " \n\t\n "])
def test_no_text_is_an_artifact_error_with_nothing_left(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.txt").write_text(text)
    with pytest.raises(ArtifactError, match=r"empty\.txt: there is no text"):
        _run(tmp_path / "out", data=[str(tmp_path / "empty.txt")], vocab_size=300)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


def test_errors_of_reading_pass_through_the_trainer(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps({"text": "fine"}) + "\n{broken\n")
    with pytest.raises(ArtifactError, match=r"bad\.jsonl line 2: not JSON"):
        _run(tmp_path / "out", data=[str(tmp_path / "bad.jsonl")], vocab_size=300)
    assert not (tmp_path / "out").exists()


def test_it_knows_the_words_of_chats(corpus: Path, tmp_path: Path) -> None:
    call = {"function": {"name": "zwick", "arguments": '{"person": "Qorval"}'}}
    turn = {
        "role": "assistant",
        "content": "Xylofant.",
        "reasoning_content": "Ombrekkin it is.",
        "tool_calls": [call],
    }
    chat = {"messages": [{"role": "user", "content": "Ask Qorval."}, turn]}
    (tmp_path / "chats.jsonl").write_text((json.dumps(chat) + "\n") * 200)
    given = {"data": [str(corpus)], "vocab_size": 700}
    _run(tmp_path / "plain", **given)
    _run(tmp_path / "chats", **given, chats=[str(tmp_path / "chats.jsonl")])
    pieces = {}
    for name in ("plain", "chats"):
        backend = Tokenizer.from_file(str(tmp_path / name / "tokenizer.json"))
        words = (" Qorval", "Qorval", "Xylofant", "Ombrekkin", "zwick")
        pieces[name] = [len(backend.encode(word, add_special_tokens=False).ids) for word in words]
    assert pieces["chats"] == [1, 1, 1, 1, 1]
    assert min(pieces["plain"]) > 1
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": []}) + "\n")
    with pytest.raises(ArtifactError, match=r"chats\.jsonl line 1"):
        _run(tmp_path / "broken", **given, chats=[str(tmp_path / "chats.jsonl")])


def test_settings_that_make_no_sense(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="288"):
        TokenizerConfig(data=[str(corpus)], vocab_size=287)
    with pytest.raises(UsageError, match=r"weight 0\.5 has no meaning"):
        _run(tmp_path / "out", data=[f"{corpus}:0.5"], vocab_size=300)


def test_held_out_passages_are_not_trained_on(corpus: Path) -> None:
    passages = Passages(Source("s", (corpus,)), "text", hold_out=True)
    trained = list(passages.training(QuietProgressBar()))
    assert not set(trained) & set(passages.held_out)
    assert len(passages.held_out) == pytest.approx(len(trained) / 63, abs=1)
    assert sum(map(len, trained + passages.held_out)) == sum(len(story(number, 600)) for number in range(200))
