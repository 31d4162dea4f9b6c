"""Two models of two billion parameters in bfloat16 are merged in less than 2 GiB of resident memory."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from model.artifact.safetensors_header import TensorInfo
from model.artifact.streaming import stream_weights
from model.config import HybridConfig
from model.hybrid import HybridLM
from model.loading import save_config

SHAPE = HybridConfig.preset("nemotron-h-4b", pattern="M-M*-M-M-M-M*-M-M-")
NEEDED = 16 << 30
LIMIT = 2 << 30

MEASURED = """
import sys
from pathlib import Path
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.merge.config import MergeConfig
from stages.merge.stage import STAGE

*models, method, out = sys.argv[1:]
config = MergeConfig.model_validate({"model": models, "method": method})
run_stage(STAGE, config, out=Path(out), reporter=QuietReporter(), command=[])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
print(STAGE.call_plan(config).peak_bytes)
"""


def make_random(directory: Path, seed: int) -> Path:
    directory.mkdir()
    with torch.device("meta"):
        state = HybridLM(SHAPE, initialize=False).state_dict()
    generator = torch.Generator().manual_seed(seed)

    def pieces(name: str) -> Iterator[Tensor]:
        left = state[name].numel()
        while left:
            piece = torch.randn(min(left, 1 << 24), generator=generator)
            left -= piece.numel()
            yield piece.to(torch.bfloat16)

    infos = {name: TensorInfo.of("bfloat16", tuple(tensor.shape)) for name, tensor in state.items()}
    assert sum(info.count for info in infos.values()) > 2e9
    stream_weights(infos, pieces, directory)
    save_config(SHAPE, directory, torch.bfloat16)
    return directory


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_two_billion_parameters_in_two_gibibytes(tmp_path: Path, method: str) -> None:
    if shutil.disk_usage(tmp_path).free < NEEDED:
        pytest.skip("there is not enough room for three models of 4 GB")
    models = [make_random(tmp_path / name, seed) for seed, name in enumerate("ab")]
    command = [sys.executable, "-c", MEASURED, *map(str, models), method, str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    resident, planned = (int(word) for word in done.stdout.split())
    assert resident * 1024 < LIMIT
    assert resident * 1024 < planned
    parts = []
    for directory in (*models, tmp_path / "out"):
        with safe_open(directory / "model.safetensors", framework="pt") as file:
            parts.append(file.get_slice("backbone.embeddings.weight")[1000:1003])
    if method == "linear":
        one, other, merged = parts
        assert torch.equal(merged, (0.5 * one.double() + 0.5 * other.double()).to(torch.bfloat16))
    size = json.loads((tmp_path / "out" / "nano2.json").read_text())["files"]["model.safetensors"]["size"]
    assert size > 4e9
    shutil.rmtree(tmp_path)
