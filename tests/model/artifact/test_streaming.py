"""Weights written piece by piece: the same files to the byte, and read back piece by piece."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.artifact.hashing import content_hash
from model.artifact.safetensors_header import TensorInfo
from model.artifact.streaming import stream_weights
from model.artifact.weights import CheckpointFiles, save_weights
from model.errors import ArtifactError
from tests.model.artifact.test_weights import same_bits, state_dicts


def infos(tensors: dict[str, torch.Tensor]) -> dict[str, TensorInfo]:
    return {
        key: TensorInfo.of(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for key, tensor in tensors.items()
    }


def in_pieces(tensor: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    yield from tensor.reshape(-1).split(size)


@settings(max_examples=60, deadline=None)
@given(state_dicts(), st.integers(1, 400), st.integers(1, 5))
def test_the_files_of_save_weights_to_the_byte(
    tensors: dict[str, torch.Tensor], max_shard_bytes: int, size: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole, streamed = Path(name, "whole"), Path(name, "streamed")
        whole.mkdir()
        streamed.mkdir()
        save_weights(tensors, whole, max_shard_bytes=max_shard_bytes)
        stream_weights(
            infos(tensors),
            lambda key: in_pieces(tensors[key], size),
            streamed,
            max_shard_bytes=max_shard_bytes,
        )
        assert content_hash(whole) == content_hash(streamed)

        files = CheckpointFiles(streamed)
        for key, tensor in tensors.items():
            pieces = [
                files.elements(key, start, min(start + size, tensor.numel()))
                for start in range(0, tensor.numel(), size)
            ]
            read = torch.cat(pieces) if pieces else torch.empty(0, dtype=tensor.dtype)
            assert same_bits(read, tensor.reshape(-1))


def test_pieces_that_are_not_the_announced_tensor(tmp_path: Path) -> None:
    announced = infos({"w": torch.zeros(4)})
    for pieces, message in (
        ([torch.zeros(3)], "was to have 16 bytes and has 12"),
        ([torch.zeros(3), torch.zeros(2)], "was to have 16 bytes and has 20"),
        ([torch.zeros(4, dtype=torch.bfloat16)], r"was to be float32 and is torch\.bfloat16"),
    ):
        with pytest.raises(ValueError, match=message):
            stream_weights(announced, lambda _, pieces=pieces: pieces, tmp_path)
    with pytest.raises(ValueError, match="no tensors"):
        stream_weights({}, lambda _: [], tmp_path)


def test_elements_of_a_file_that_was_cut_since_it_was_opened(tmp_path: Path) -> None:
    save_weights({"a": torch.arange(8.0), "b": torch.arange(8.0)}, tmp_path)
    files = CheckpointFiles(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert files.elements("b", 0, 6).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ArtifactError, match="cut short in tensor b"):
        files.elements("b", 4, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_elements_that_are_not_finite(tmp_path: Path, dtype: torch.dtype) -> None:
    weight = torch.zeros(8)
    weight[5] = float("nan")
    save_weights({"a": weight.to(dtype)}, tmp_path)
    files = CheckpointFiles(tmp_path)
    assert files.elements("a", 0, 5, require_finite=True).float().tolist() == [0, 0, 0, 0, 0]
    assert files.elements("a", 5, 6).float().isnan().all()
    with pytest.raises(ArtifactError, match="tensor a holds 1 NaN or infinite values of 4"):
        files.elements("a", 4, 8, require_finite=True)
