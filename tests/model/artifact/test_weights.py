"""Safetensors checkpoints: written to the byte, read lazily, every defect named."""

import json
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model.artifact.hashing import content_hash
from model.artifact.provenance import Provenance, write_provenance
from model.artifact.weights import CheckpointFiles, save_weights
from model.errors import ArtifactError

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]


@st.composite
def state_dicts(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    keys = draw(st.lists(st.text("abw.0", min_size=1, max_size=6), min_size=1, max_size=8, unique=True))
    tensors = {}
    for key in keys:
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        dtype = draw(st.sampled_from(DTYPES))
        seed = draw(st.integers(0, 1000))
        tensors[key] = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3).to(dtype)
    return tensors


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and bytes_of(one) == bytes_of(other)


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


@settings(max_examples=60, deadline=None)
@given(state_dicts(), st.integers(1, 400), st.randoms(use_true_random=False))
def test_round_trip(tensors: dict[str, torch.Tensor], max_shard_bytes: int, dice: random.Random) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, again = Path(name, "a"), Path(name, "b")
        folder.mkdir()
        again.mkdir()
        save_weights(tensors, folder, max_shard_bytes=max_shard_bytes)
        shuffled = list(tensors)
        dice.shuffle(shuffled)
        save_weights({key: tensors[key] for key in shuffled}, again, max_shard_bytes=max_shard_bytes)
        assert content_hash(folder) == content_hash(again)

        checkpoint = CheckpointFiles(folder)
        assert checkpoint.keys() == sorted(tensors)
        assert checkpoint.total_bytes == sum(tensor.nbytes for tensor in tensors.values())
        assert checkpoint.total_parameters == sum(tensor.numel() for tensor in tensors.values())
        for key, tensor in checkpoint.tensors():
            assert same_bits(tensor, tensors[key])
            assert checkpoint.shape(key) == tuple(tensor.shape)
            assert checkpoint.dtype(key) == tensor.dtype
        check_layout(folder, checkpoint, max_shard_bytes)


def check_layout(folder: Path, checkpoint: CheckpointFiles, max_shard_bytes: int) -> None:
    """The names, metadata and index are those that transformers writes."""
    index = folder / "model.safetensors.index.json"
    files = [path.name for path in checkpoint.files]
    if files == ["model.safetensors"]:
        assert not index.exists()
    else:
        assert files == [f"model-{n:05d}-of-{len(files):05d}.safetensors" for n in range(1, len(files) + 1)]
        content = json.loads(index.read_text())
        assert content["metadata"] == {
            "total_parameters": checkpoint.total_parameters,
            "total_size": checkpoint.total_bytes,
        }
        assert content["weight_map"] == {key: checkpoint.file(key).name for key in checkpoint.keys()}  # noqa: SIM118
    assert sorted(path.name for path in folder.iterdir()) == sorted(files + [index.name] * index.exists())
    for path in checkpoint.files:
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {"format": "pt"}
        loaded = load_file(path)
        assert len(loaded) == 1 or sum(tensor.nbytes for tensor in loaded.values()) <= max_shard_bytes


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o775, 0o664), (0o700, 0o600)])
def test_whoever_may_read_the_directory_may_read_the_weights(tmp_path: Path, folder: int, file: int) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    directory.chmod(folder)
    save_weights({"a": torch.zeros(4), "b": torch.zeros(4)}, directory, max_shard_bytes=16)
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.glob("*.safetensors")}
    assert len(modes) == 2
    assert set(modes.values()) == {file}


def test_tied_and_strided_tensors_are_written_in_full(tmp_path: Path) -> None:
    table = torch.randn(4, 6)
    tensors = {"a": table, "tied": table, "part": table[1:3], "t": table.T, "p": torch.nn.Parameter(table[0])}
    save_weights(tensors, tmp_path)
    loaded = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)


class Lazy(Mapping[str, torch.Tensor]):
    """Makes tensors when asked; counts how many are alive."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[str] = []

    def __getitem__(self, key: str) -> torch.Tensor:
        self.asked.append(key)
        return torch.full((10,), float(key))

    def __iter__(self) -> Iterator[str]:
        return (f"{number:03d}" for number in reversed(range(self.count)))

    def __len__(self) -> int:
        return self.count


def test_lazy_mapping_is_read_once_and_shards_are_written_as_it_goes(tmp_path: Path) -> None:
    lazy = Lazy(5)
    save_weights(lazy, tmp_path, max_shard_bytes=80)
    assert lazy.asked == ["000", "001", "002", "003", "004"]

    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        for number in range(5):
            written = len(list(folder.glob(".shard-*")))
            assert written == max(0, (number - 1) // 2)  # what does not fit any more has been written
            yield f"{number:03d}", lazy[f"{number:03d}"]

    folder = tmp_path / "streamed"
    folder.mkdir()
    save_weights(stream(), folder, max_shard_bytes=80)
    assert content_hash(folder) == content_hash_without(tmp_path, "streamed")


def content_hash_without(folder: Path, name: str) -> str:
    shutil.move(folder / name, folder.parent / f"{folder.name}-{name}")
    try:
        return content_hash(folder)
    finally:
        shutil.move(folder.parent / f"{folder.name}-{name}", folder / name)


def test_nothing_or_a_key_twice_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tensors"):
        save_weights({}, tmp_path)
    for max_shard_bytes in (1, 100):
        with pytest.raises(ValueError, match="twice"):
            save_weights(
                iter([("a", torch.ones(2)), ("a", torch.ones(2))]), tmp_path, max_shard_bytes=max_shard_bytes
            )


# Defects


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Four tensors in two shards, without nano2.json."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_weights({name: torch.arange(8.0) for name in "abcd"}, folder, max_shard_bytes=64)
    return folder


@pytest.fixture
def single(tmp_path: Path) -> Path:
    folder = tmp_path / "single"
    folder.mkdir()
    save_weights({"w": torch.arange(8.0), "v": torch.ones(3, dtype=torch.int64)}, folder)
    return folder


def edit_index(folder: Path, change: Callable[[dict[str, str]], None]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


SHARD = "model-00001-of-00002.safetensors"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no weights") as caught:
        CheckpointFiles(tmp_path)
    assert caught.value.remedy
    with pytest.raises(ArtifactError, match="does not exist"):
        CheckpointFiles(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="is a file"):
        CheckpointFiles(tmp_path / "file")


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth"]
)
def test_pickles_are_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(ArtifactError, match=f"pickled weights.*{name}") as caught:
        CheckpointFiles(tmp_path)
    assert "safetensors" in caught.value.remedy


def test_missing_shard(sharded: Path) -> None:
    (sharded / SHARD).unlink()
    with pytest.raises(ArtifactError, match=f"{SHARD}.*missing"):
        CheckpointFiles(sharded)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight_map: weight_map.update(ghost=SHARD), f"{SHARD} holds tensor ghost, but it does not"),
        (lambda weight_map: weight_map.update(d=SHARD), f"{SHARD} holds tensor d, but it does not"),
        (lambda weight_map: weight_map.pop("a"), "does not list tensor a"),
        (lambda weight_map: weight_map.update(a="../" + SHARD), "no safetensors file of this directory"),
        (lambda weight_map: weight_map.update(a="/etc/passwd"), "no safetensors file of this directory"),
        (
            lambda weight_map: weight_map.update(a="..\\x.safetensors"),
            "no safetensors file of this directory",
        ),
        (
            lambda weight_map: weight_map.update(a="pytorch_model.bin"),
            "no safetensors file of this directory",
        ),
        (lambda weight_map: weight_map.update(a=7), "no safetensors file of this directory"),
        (lambda weight_map: weight_map.clear(), "no weight_map"),
    ],
)
def test_index_that_contradicts_the_shards(
    sharded: Path, change: Callable[[dict[str, str]], None], message: str
) -> None:
    edit_index(sharded, change)
    with pytest.raises(ArtifactError, match=message) as caught:
        CheckpointFiles(sharded)
    assert "model.safetensors.index.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": []}', "\xff", "[" * 100_000])
def test_malformed_index(sharded: Path, text: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"index\.json"):
        CheckpointFiles(sharded)


def test_tensor_in_two_shards(sharded: Path) -> None:
    tensors = load_file(sharded / SHARD)
    save_file({**tensors, "d": torch.ones(1)}, sharded / SHARD, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=f"tensor d, which {SHARD} holds already"):
        CheckpointFiles(sharded)


def header(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (b"\x01\x00\x00", "cut short"),
        (struct.pack("<Q", 10**6) + b"{}", "header of 1000000 bytes, and only 2"),
        (b"\xff" * 64, "announces a header"),
        (header(b"\xff\xfe"), "not JSON"),
        (header(b"{"), "not JSON"),
        (header(b"[" * 100_000), "not JSON"),
        (header(b"[]"), "not a JSON object"),
        (header(b'{"w": 1}'), "tensor w"),
        (
            header(b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}'),
            r"tensor w the shape \[-1\]",
        ),
        (
            header(b'{"w": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}', bytes(4)),
            "tensor w the shape",
        ),
        (
            header(b'{"w": {"dtype": "Q4", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)),
            "tensor w has dtype Q4",
        ),
        (
            header(b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', bytes(4)),
            "tensor w ends at byte 8",
        ),
        (
            header(b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}', bytes(8)),
            "its shape contradicts",
        ),
        (
            header(b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', bytes(8)),
            "its shape contradicts",
        ),
        (header(b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', bytes(9)), "5 bytes more"),
        (
            header(
                b'{"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},'
                b' "w": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}',
                bytes(2),
            ),
            "tensor w twice",
        ),
    ],
)
def test_damaged_file(single: Path, content: bytes, message: str) -> None:
    path = single / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        CheckpointFiles(single)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def read_all(folder: Path, *, verify_hashes: bool = True) -> None:
    checkpoint = CheckpointFiles(folder, verify_hashes=verify_hashes)
    for key in checkpoint.keys():  # noqa: SIM118
        checkpoint.shape(key)
        checkpoint.dtype(key)
        checkpoint.tensor(key)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 7), st.booleans())
def test_flipped_bit(offset: int, bit: int, in_shards: bool) -> None:
    """Found by its hash, wherever it is; without hashes it is either found or harmless, never a crash."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_weights(
            {key: torch.arange(8.0) for key in "abcd"}, folder, max_shard_bytes=64 if in_shards else 10**6
        )
        write_provenance(folder, Provenance(kind="model", stage="test"))
        weights = sorted(path for path in folder.iterdir() if path.name.startswith("model"))
        path = weights[offset % len(weights)]
        content = bytearray(path.read_bytes())
        content[offset % len(content)] ^= 1 << bit
        path.write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            CheckpointFiles(folder)
        assert folder.name in str(caught.value)
        with suppress(ArtifactError):
            read_all(folder, verify_hashes=False)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_truncation(length: int, recorded: bool) -> None:
    """Found with and without recorded hashes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_weights({key: torch.arange(8.0) for key in "abcd"}, folder)
        if recorded:
            write_provenance(folder, Provenance(kind="model", stage="test"))
        path = folder / "model.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[: length % len(content)])
        with pytest.raises(ArtifactError, match=r"model\.safetensors"):
            CheckpointFiles(folder)


def test_edited_config_is_refused_until_it_is_meant(sharded: Path) -> None:
    (sharded / "config.json").write_text('{"layer_norm_epsilon": 1e-5}')
    write_provenance(sharded, Provenance(kind="model", stage="test"))
    (sharded / "config.json").write_text('{"layer_norm_epsilon": 1e-6}')
    with pytest.raises(ArtifactError, match=r"config\.json: is damaged") as caught:
        CheckpointFiles(sharded)
    assert "remove nano2.json" in caught.value.remedy
    (sharded / "nano2.json").unlink()
    CheckpointFiles(sharded)


def test_flip_is_named_by_file(sharded: Path) -> None:
    write_provenance(sharded, Provenance(kind="model", stage="test"))
    read_all(sharded)
    path = sharded / "model-00002-of-00002.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model-00002-of-00002\.safetensors: is damaged: its sha256"):
        CheckpointFiles(sharded)
    read_all(sharded, verify_hashes=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_first_bad_tensor_is_named(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    bad = torch.ones(4, 4, dtype=dtype)
    bad[1, 2] = value
    save_weights({"a": torch.ones(2), "b": bad, "c": bad, "n": torch.ones(1, dtype=torch.int64)}, tmp_path)
    checkpoint = CheckpointFiles(tmp_path)
    assert len(list(checkpoint.tensors())) == 4
    assert torch.equal(checkpoint.tensor("n", require_finite=True), torch.ones(1, dtype=torch.int64))
    with pytest.raises(
        ArtifactError, match=r"model\.safetensors: tensor b holds 1 NaN or infinite values of 16"
    ):
        list(checkpoint.tensors(require_finite=True))


def test_float8_is_checked_too(tmp_path: Path) -> None:
    save_weights({"w": torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)}, tmp_path)
    with pytest.raises(ArtifactError, match="tensor w"):
        CheckpointFiles(tmp_path).tensor("w", require_finite=True)


def test_unknown_key(single: Path) -> None:
    checkpoint = CheckpointFiles(single)
    for ask in (checkpoint.tensor, checkpoint.shape, checkpoint.dtype, checkpoint.file):
        with pytest.raises(ArtifactError, match="no tensor x"):
            ask("x")


def test_file_changed_after_opening(single: Path) -> None:
    checkpoint = CheckpointFiles(single)
    (single / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(ArtifactError, match="tensor w"):
        checkpoint.tensor("w")


def test_transformers_writes_what_is_read_here_and_reads_what_is_written_here(tmp_path: Path) -> None:
    from transformers import NemotronHConfig, NemotronHForCausalLM

    config = NemotronHConfig(
        vocab_size=32, hidden_size=16, layers_block_type=["linear_attention", "full_attention", "mlp"],
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, intermediate_size=32, mamba_num_heads=4,
        mamba_head_dim=8, ssm_state_size=8, n_groups=1, time_step_min=1e-30,
    )  # fmt: skip
    theirs = NemotronHForCausalLM(config)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="4KB")
    checkpoint = CheckpointFiles(tmp_path / "theirs")
    assert len(checkpoint.files) > 1
    assert "backbone.layers.0.mixer.A_log" in checkpoint.keys()  # noqa: SIM118

    (tmp_path / "ours").mkdir()
    save_weights(dict(checkpoint.tensors()), tmp_path / "ours", max_shard_bytes=4000)
    shutil.copy(tmp_path / "theirs" / "config.json", tmp_path / "ours")
    loaded, report = NemotronHForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in loaded.state_dict().items())
