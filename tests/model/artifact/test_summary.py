"""What `nano2 inspect` says of a directory."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.artifact.summary import summarize
from model.artifact.weights import CheckpointFiles, save_weights
from model.errors import ArtifactError
from tests.model.artifact.chain import make_chain, tensors


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return make_chain(tmp_path)


def test_model(tuned: Path) -> None:
    summary = summarize(tuned)
    assert summary.kind == "model"
    assert summary.file_count == 2
    assert summary.size_bytes == sum(
        (tuned / name).stat().st_size for name in ("config.json", "model.safetensors")
    )
    assert summary.metrics == {"loss": 1.25}
    assert summary.details["dtype"] == "float32"
    assert summary.details["pattern"] == "M*-M"
    assert summary.details["total_parameters"] == sum(tensor.numel() for tensor in tensors().values())
    assert summary.details["tokenizer"] is False


def test_parameters_are_counted_by_kind_of_layer(tuned: Path) -> None:
    weights = tensors()

    def count(*prefixes: str) -> int:
        return sum(tensor.numel() for key, tensor in weights.items() if key.startswith(prefixes))

    assert summarize(tuned).parameters == {
        "embedding": 32 * 16,
        "mamba": count("backbone.layers.0.", "backbone.layers.3."),
        "attention": count("backbone.layers.1."),
        "mlp": count("backbone.layers.2."),
        "final_norm": 16,
        "head": 32 * 16,
    }


def test_counts_agree_with_the_formula(tuned: Path) -> None:
    from model.config import HybridConfig
    from model.counting import count_parameters

    config = HybridConfig.from_hf(json.loads((tuned / "config.json").read_text()))
    counted = count_parameters(config)
    found = summarize(tuned).parameters
    assert found == {name: getattr(counted, name) for name in found}
    assert sum(found.values()) == counted.total


def test_foreign_checkpoint_with_old_names_in_shards(tuned: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "released"
    foreign.mkdir()
    shutil.copy(tuned / "config.json", foreign)
    mixed = {key.replace("backbone.", "model."): tensor.bfloat16() for key, tensor in tensors().items()}
    mixed["model.layers.0.mixer.A_log"] = torch.ones(4)
    save_weights(mixed, foreign, max_shard_bytes=2000)
    summary = summarize(foreign)
    assert summary.provenance is None
    assert summary.details["dtype"] == "bfloat16, float32"
    assert summary.details["weight_files"] == len(CheckpointFiles(foreign).files) > 1
    assert summary.parameters == summarize(tuned).parameters


def test_tokenizer(tmp_path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(["abab abab"], trainers.BpeTrainer(vocab_size=10, special_tokens=["<s>"]))
    tokenizer.add_tokens([AddedToken("word", special=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    summary = summarize(tmp_path)
    assert summary.kind == "tokenizer"
    assert summary.details["model"] == "BPE"
    assert summary.details["vocab_size"] == tokenizer.get_vocab_size()
    assert summary.details["special_tokens"] == 1
    assert summary.details["merges"] > 0
    assert not summary.details["chat_template"]


def test_dataset(tmp_path: Path) -> None:
    content = {
        "schema_version": 1,
        "seq_len": 64,
        "sources": {"books": {"rows": 3}},
        "phases": [{"books": 1.0}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert summarize(tmp_path).details == {
        "seq_len": 64,
        "source books": {"rows": 3},
        "phase 1": {"books": 1.0},
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dataset.json", "{", "not JSON"),
        ("dataset.json", "[]", "not a JSON object"),
        ("dataset.json", '{"sources": []}', "no sources"),
        ("tokenizer.json", "{}", "no vocabulary"),
        ("tokenizer.json", '{"model": []}', "no vocabulary"),
        ("config.json", '{"model_type": "nemotron_h"}', "no weights"),
        ("text.txt", "some text", "is no artifact"),
    ],
)
def test_damaged_or_none(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ArtifactError, match=message) as caught:
        summarize(tmp_path)
    assert caught.value.remedy
    assert str(tmp_path) in str(caught.value)


def test_not_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        summarize(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="is a file"):
        summarize(tmp_path / "file")
