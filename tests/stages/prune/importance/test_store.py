import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.errors import ArtifactError
from model.loading import save as save_model
from stages.prune.importance.store import Importance, load, save
from tests.model.miniatures import miniature, randomized
from tests.stages.prune.miniature_runs import MODEL_HASH, measured, packed_rows

CONFIG = miniature("M-*M-")


@pytest.fixture(scope="module")
def importance(tmp_path_factory: pytest.TempPathFactory) -> Importance:
    folder = tmp_path_factory.mktemp("importance")
    return measured(randomized(CONFIG), packed_rows(folder), folder / "run", deepest=3, keep={"*": 1})


@pytest.fixture
def path(importance: Importance, tmp_path: Path) -> Path:
    save(importance, tmp_path / "importance.safetensors")
    return tmp_path / "importance.safetensors"


def test_what_is_read_is_what_was_written(importance: Importance, path: Path) -> None:
    read = load(path, CONFIG, model=MODEL_HASH)
    assert (read.layers, read.origin) == (importance.layers, importance.origin)
    for name, value in vars(importance.widths).items():
        other = getattr(read.widths, name)
        if isinstance(value, dict):
            assert value.keys() == other.keys()
            assert all(torch.equal(value[block], other[block]) for block in value)
        else:
            assert torch.equal(value, other)
    assert read.origin.data == ("sha256:2",)
    assert read.origin.settings["samples"] == 10
    assert read.origin.settings["keep"] == {"*": 1}


def test_equal_importance_is_equal_bytes(importance: Importance, path: Path, tmp_path: Path) -> None:
    save(importance, tmp_path / "again")
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again", "importance.safetensors"]


def test_another_models_is_refused(path: Path) -> None:
    with pytest.raises(ArtifactError, match="was measured on another model") as caught:
        load(path, CONFIG, model="sha256:" + "f" * 64)
    assert caught.value.where == str(path)


def test_a_missing_or_cut_file_is_named(path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        load(path.with_name("nowhere"), CONFIG, model=MODEL_HASH)
    content = path.read_bytes()
    for size in (0, 5, 60, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ArtifactError, match=re.escape(str(path))):
            load(path, CONFIG, model=MODEL_HASH)


def test_a_checkpoint_is_no_importance(tmp_path: Path) -> None:
    save_model(randomized(CONFIG), tmp_path)
    with pytest.raises(ArtifactError, match="is no importance file"):
        load(tmp_path / "model.safetensors", CONFIG, model=MODEL_HASH)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("neurons.1", float("nan"), "tensor neurons.1 holds NaN"),
        ("hidden", float("inf"), "tensor hidden holds NaN or infinite"),
        ("layers.mse", float("nan"), "tensor layers.mse holds NaN"),
        ("layers.block", 5, "ranks a block twice, or one that the model lacks"),
        ("layers.block", 1, "ranks a block twice, or one that the model lacks"),
        ("mamba.3", None, "tensor mamba.3 is None"),
    ],
)
def test_a_damaged_tensor_is_named(path: Path, name: str, value: float | None, said: str) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = {key: tensor.clone() for key, tensor in load_file(path).items()}
    if value is None:
        del tensors[name]
    else:
        tensors[name][...] = value
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ArtifactError, match=said):
        load(path, CONFIG, model=MODEL_HASH)


def test_an_importance_of_another_shape_is_refused(path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tensor neurons.1 is \(56,\), the model makes it \(48,\)"):
        load(path, miniature("M-*M-", intermediate_size=48), model=MODEL_HASH)


def test_a_full_disk_leaves_the_old_file(path: Path, tmp_path: Path) -> None:
    """Writing is stopped by a limit on file sizes: what was there is there."""
    before = path.read_bytes()
    program = f"""
import resource, signal
from pathlib import Path
from stages.prune.importance.store import load, save
from tests.stages.prune.importance.test_store import CONFIG, MODEL_HASH
importance = load(Path({str(path)!r}), CONFIG, model=MODEL_HASH)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    save(importance, Path({str(path)!r}))
except OSError as error:
    print("refused", error.errno)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
