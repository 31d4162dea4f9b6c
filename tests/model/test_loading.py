"""Checkpoints read and written; every kind of damage refused, with the file, tensor or key named."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model import load
from model.artifact.provenance import Provenance, write_provenance
from model.artifact.weights import save_weights
from model.errors import ArtifactError, UsageError
from model.hybrid import HybridLM
from model.loading import read_config, save
from model.tokenizer import copy_tokenizer, load_tokenizer
from tests.model.miniatures import MINIATURES, miniature, random_ids, randomized

CONFIG = miniature("M-*")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pristine")
    save(randomized(CONFIG), directory)
    return directory


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def refusal(directory: Path) -> str:
    """What loading says when it fails, remedy included: one line, and where."""
    with pytest.raises(ArtifactError) as caught:
        load(directory)
    assert "\n" not in caught.value.what
    assert caught.value.where
    return f"{caught.value} {caught.value.remedy}"


@pytest.mark.parametrize("name", MINIATURES)
def test_what_is_saved_is_loaded(name: str, tmp_path: Path) -> None:
    lm = randomized(MINIATURES[name])
    save(lm, tmp_path)
    read = load(tmp_path)
    assert read.config == lm.config
    assert not read.training
    assert all(torch.equal(tensor, lm.state_dict()[key]) for key, tensor in read.state_dict().items())
    ids = random_ids(lm.config, 1, 20)
    with torch.no_grad():
        assert torch.equal(read(ids).logits, lm(ids).logits)


def test_files_that_are_written(pristine: Path) -> None:
    assert {path.name for path in pristine.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors"
    }  # fmt: skip
    with safe_open(pristine / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert json.loads((pristine / "config.json").read_text())["dtype"] == "float32"


def test_dtype(tmp_path: Path) -> None:
    """As config.json says, unless asked for another; saved as it is, unless asked for another."""
    lm = randomized(CONFIG)
    save(lm, tmp_path, dtype="bfloat16")
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert {parameter.dtype for parameter in load(tmp_path).parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in load(tmp_path, dtype="float32").parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in load(tmp_path, dtype=torch.float64).parameters()} == {
        torch.float64
    }
    edit_config(tmp_path, dtype=None, torch_dtype=None)
    assert load(tmp_path).lm_head.weight.dtype == torch.bfloat16
    with pytest.raises(UsageError, match="half"):
        load(tmp_path, dtype="half")


def test_parameters_can_be_trained(directory: Path) -> None:
    lm = load(directory).train()
    lm(random_ids(lm.config, 1, 9)).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in lm.parameters())


def test_mtp_tensors_are_left_out(directory: Path) -> None:
    ids_BT = torch.arange(8)[None]
    with torch.no_grad():
        expected = load(directory)(ids_BT).logits
        edit_tensors(directory, lambda tensors: tensors.update({"mtp.layers.0.norm.weight": torch.ones(3)}))
        assert torch.equal(load(directory)(ids_BT).logits, expected)


def test_sharded(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    save_weights(tensors, directory, max_shard_bytes=10_000)
    assert len(list(directory.glob("model-*.safetensors"))) > 2
    assert torch.equal(load(directory).lm_head.weight, tensors["lm_head.weight"])


def test_a_missing_shard(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    save_weights(tensors, directory, max_shard_bytes=10_000)
    second = sorted(directory.glob("model-*.safetensors"))[1]
    second.unlink()
    assert second.name in refusal(directory)


@pytest.mark.parametrize("kept", [0, 1, 4, 8, 100, 0.5, -1])
def test_truncated_weights(directory: Path, kept: float) -> None:
    path = directory / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert "model.safetensors" in refusal(directory)


def test_bytes_behind_the_weights(directory: Path) -> None:
    with (directory / "model.safetensors").open("ab") as file:
        file.write(b"more")
    assert "model.safetensors" in refusal(directory)


def test_a_flipped_byte_in_the_header(directory: Path) -> None:
    path = directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[20] ^= 0x40
    path.write_bytes(content)
    assert "model.safetensors" in refusal(directory)


@pytest.mark.parametrize("place", [0.3, 0.99])
def test_a_flipped_byte_in_the_data(directory: Path, place: float) -> None:
    """Plausible numbers all of them: only the hash in nano2.json can tell."""
    write_provenance(directory, Provenance(kind="model", stage="pretrain"))
    load(directory)
    path = directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x01
    path.write_bytes(content)
    assert "model.safetensors" in refusal(directory)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_a_number(directory: Path, value: float) -> None:
    key = "backbone.layers.1.mixer.up_proj.weight"
    edit_tensors(directory, lambda tensors: tensors[key][3].fill_(value))
    assert key in refusal(directory)


def test_a_missing_tensor(directory: Path) -> None:
    edit_tensors(directory, lambda tensors: tensors.pop("lm_head.weight"))
    message = refusal(directory)
    assert "lm_head.weight" in message
    assert "missing" in message


def test_a_tensor_too_many(directory: Path) -> None:
    edit_tensors(directory, lambda tensors: tensors.update({"backbone.layers.9.norm.weight": torch.ones(40)}))
    assert "backbone.layers.9.norm.weight" in refusal(directory)


@pytest.mark.parametrize(
    ("changes", "tensor"),
    [
        ({"hidden_size": 48}, "backbone.embeddings.weight"),
        ({"vocab_size": 95}, "backbone.embeddings.weight"),
        ({"intermediate_size": 64}, "backbone.layers.1.mixer"),
        ({"head_dim": 16}, "backbone.layers.2.mixer"),
        ({"n_groups": 4}, "backbone.layers.0.mixer"),
        ({"conv_kernel": 3}, "backbone.layers.0.mixer.conv1d.weight"),
        ({"mlp_bias": True}, "backbone.layers.1.mixer"),
        ({"use_conv_bias": False}, "backbone.layers.0.mixer.conv1d.bias"),
    ],
)
def test_config_that_contradicts_the_shapes(directory: Path, changes: dict[str, Any], tensor: str) -> None:
    edit_config(directory, **changes)
    assert tensor in refusal(directory)


def test_another_pattern_than_the_weights(directory: Path) -> None:
    layers = ["full_attention", "mlp", "linear_attention"]
    edit_config(directory, hybrid_override_pattern="*-M", layers_block_type=layers)
    assert "backbone.layers.0.mixer" in refusal(directory)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"hidden_sise": 40}, "hidden_sise"),
        ({"sliding_window": 128}, "sliding_window"),
        ({"attention_bias": True}, "attention_bias"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"time_step_limit": [0.001, 0.1]}, "time_step_limit"),
        ({"hybrid_override_pattern": "MEM", "layers_block_type": None}, "mixture of experts"),
        ({"layers_block_type": ["linear_attention", "moe", "full_attention"]}, "moe"),
        ({"model_type": "mamba2"}, "mamba2"),
        ({"num_hidden_layers": 4}, "num_hidden_layers"),
        ({"chunk_size": 100}, "chunk_size"),
    ],
)
def test_unsupported_config(directory: Path, changes: dict[str, Any], key: str) -> None:
    edit_config(directory, **changes)
    message = refusal(directory)
    assert key in message
    assert "config.json" in message


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"config"', "\xff"])
def test_malformed_config(directory: Path, content: str) -> None:
    (directory / "config.json").write_bytes(content.encode("latin-1"))
    assert "config.json" in refusal(directory)


def test_absent_files(directory: Path, tmp_path: Path) -> None:
    assert "no such directory" in refusal(tmp_path / "nowhere")
    (directory / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    assert "model.safetensors" in refusal(directory)
    (directory / "config.json").unlink()
    assert "config.json" in refusal(directory)


def test_a_file_in_place_of_a_directory(directory: Path) -> None:
    assert "directory" in refusal(directory / "model.safetensors")


def test_integer_weights(directory: Path) -> None:
    edit_tensors(
        directory, lambda tensors: tensors.update({"lm_head.weight": torch.ones(96, 40, dtype=torch.int32)})
    )
    assert "lm_head.weight" in refusal(directory)


def test_both_spellings_of_one_tensor(directory: Path) -> None:
    """`backbone.norm_f.weight` and `model.norm_f.weight` are one parameter: which of the two is it?"""
    edit_tensors(directory, lambda tensors: tensors.update({"model.norm_f.weight": torch.zeros(40)}))
    assert "norm_f.weight" in refusal(directory)


def test_a_header_that_lies_about_its_length(directory: Path) -> None:
    path = directory / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**62) + content[8:])
    assert "model.safetensors" in refusal(directory)


def test_reading_the_config_alone(pristine: Path) -> None:
    assert read_config(pristine) == CONFIG


@pytest.fixture(scope="module")
def small_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(
        models.WordLevel({"<unk>": 0, **{f"w{n}": n for n in range(1, 100)}}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(directory)
    return directory


def test_tokenizer_larger_than_the_embedding(directory: Path, small_tokenizer: Path) -> None:
    copy_tokenizer(small_tokenizer, directory)
    assert len(load_tokenizer(directory, 100)) == 100
    with pytest.raises(ArtifactError, match="100 tokens, the embedding 96 rows"):
        load_tokenizer(directory, load(directory).config.vocab_size)


def test_tokenizer_absent_or_damaged(directory: Path, small_tokenizer: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json"):
        load_tokenizer(directory)
    copy_tokenizer(small_tokenizer, directory)
    (directory / "tokenizer.json").write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_tokenizer(directory)


def test_a_whole_model_in_memory_shares_nothing_with_the_files(directory: Path) -> None:
    """The file may be replaced while the model lives."""
    lm: HybridLM = load(directory)
    before = lm.lm_head.weight.clone()
    (directory / "model.safetensors").write_bytes(b"\0" * (directory / "model.safetensors").stat().st_size)
    assert torch.equal(lm.lm_head.weight, before)
