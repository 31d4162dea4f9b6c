"""The scan and the convolution against mamba-ssm's Triton kernels and causal-conv1d's reference, run in another process.

mamba-ssm must not be importable here (transformers would take its kernels): tests/peers/install_mamba_ssm.sh puts it into
.peers/mamba_ssm.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.kernels.convolution import causal_conv, causal_conv_step
from model.kernels.documents import Documents
from model.kernels.scan import chunked_scan

ROOT = Path(__file__).parents[2]
PEER = ROOT / ".peers" / "mamba_ssm"
CHUNK = 16

pytestmark = pytest.mark.skipif(
    not (PEER / "installed").is_file(), reason=f"{PEER} is absent: run tests/peers/install_mamba_ssm.sh"
)

# name -> length, groups, documents or None, with an initial state?
SCANS: dict[str, tuple[int, int, tuple[int, ...] | None, bool]] = {
    "scan, one group and a rest": (CHUNK + 3, 1, None, False),
    "scan, initial state": (2 * CHUNK + 7, 2, None, True),
    "scan, documents": (3 * CHUNK, 2, (5, 11, 19, 13), False),
    "scan, documents and initial state": (2 * CHUNK + 3, 2, (CHUNK + 3, 2, CHUNK - 2), True),
}
CONVS: dict[str, tuple[int, int, tuple[int, ...] | None, bool]] = {  # length, width, documents, bias
    "conv, width 2": (9, 2, None, True),
    "conv, width 3": (9, 3, None, True),
    "conv, width 4": (9, 4, None, True),
    "conv, no bias": (9, 4, None, False),
    "conv, documents": (14, 4, (1, 2, 5, 6), True),
}


def _ids(lengths: tuple[int, ...], batch: int) -> Tensor:
    ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return ids.expand(batch, -1).to(torch.int32).contiguous()


def _inputs() -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    cases = {}
    for name, (length, groups, documents, initial) in SCANS.items():
        case = {
            "x": normal(1, length, 4, 8),
            "dt": normal(1, length, 4),
            "A": -(torch.rand(4, generator=generator) * 8 + 0.2),
            "B": normal(1, length, groups, 16),
            "C": normal(1, length, groups, 16),
            "D": normal(4),
            "dt_bias": normal(4) - 2,
            "upstream": normal(1, length, 4, 8),
        }
        if initial:
            case["initial_states"] = normal(1, 4, 8, 16)
        if documents:
            case["seq_idx"] = _ids(documents, 1)
        cases[name] = case
    for name, (length, width, documents, bias) in CONVS.items():
        case = {
            "x": normal(2, 6, length),
            "weight": normal(6, width),
            "upstream": normal(2, 6, length),
        }
        if bias:
            case["bias"] = normal(6)
        if documents:
            case["seq_idx"] = _ids(documents, 2)
        cases[name] = case
    cases["conv, initial state"] = {
        "x": normal(2, 6, 5), "weight": normal(6, 4), "bias": normal(6), "upstream": normal(2, 6, 5),
        "initial_states": normal(2, 6, 3),
    }  # fmt: skip
    return cases


def _peer_results(inputs: dict[str, dict[str, Tensor]], folder: Path) -> dict[str, dict[str, Tensor]]:
    """What the peers make of the inputs, all cases in one process."""
    given = {f"{case}/{name}": tensor for case, tensors in inputs.items() for name, tensor in tensors.items()}
    save_file(given, folder / "inputs.safetensors")
    environment = {
        **os.environ,
        "PYTHONPATH": str(PEER),
        "TRITON_INTERPRET": "1",
        "MAMBA_DETERMINISTIC": "1",
        "TRITON_CACHE_DIR": str(folder),
    }
    command = [sys.executable, str(Path(__file__).with_name("mamba_ssm_oracle.py"))]
    files = [str(folder / "inputs.safetensors"), str(folder / "outputs.safetensors")]
    ran = subprocess.run([*command, *files], env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr[-3000:]
    results: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(files[1]).items():
        case, _, name = key.partition("/")
        results.setdefault(case, {})[name] = tensor
    return results


def _our_scan(given: dict[str, Tensor]) -> dict[str, Tensor]:
    initial, seq_idx = given.get("initial_states"), given.get("seq_idx")
    order = ("x", "dt", "A", "B", "C", "D", "dt_bias")
    leaves = {name: given[name].clone().requires_grad_() for name in order}
    values = {name: (-leaf).log() if name == "A" else leaf for name, leaf in leaves.items()}
    documents = None if seq_idx is None else Documents.from_ids(seq_idx, seq_idx.shape)
    y, final = chunked_scan(*values.values(), CHUNK, documents, initial)
    gradients = torch.autograd.grad((y * given["upstream"]).sum(), list(leaves.values()))
    return {"y": y, "final": final} | {f"grad_{name}": g for name, g in zip(order, gradients, strict=True)}


def _our_conv(given: dict[str, Tensor]) -> dict[str, Tensor]:
    x_BTC, seq_idx = given["x"].transpose(1, 2), given.get("seq_idx")
    if "initial_states" in given:
        state_BJC = given["initial_states"].transpose(1, 2).clone()
        y_BTC = causal_conv_step(x_BTC, given["weight"], given["bias"], state_BJC)
        return {"y": y_BTC.transpose(1, 2)}
    order = [name for name in ("x", "weight", "bias") if name in given]
    leaves = {name: given[name].clone().requires_grad_() for name in order}
    documents = None if seq_idx is None else Documents.from_ids(seq_idx, seq_idx.shape)
    y = causal_conv(leaves["x"].transpose(1, 2), leaves["weight"], leaves.get("bias"), documents).transpose(
        1, 2
    )
    gradients = torch.autograd.grad((y * given["upstream"]).sum(), list(leaves.values()))
    return {"y": y} | {f"grad_{name}": g for name, g in zip(order, gradients, strict=True)}


def test_scan_and_convolution(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """Outputs, final states and every gradient. One test, because starting the peers takes most of the time."""
    inputs = _inputs()
    expected = _peer_results(inputs, tmp_path)
    for case, given in inputs.items():
        with subtests.test(case):
            ours = _our_scan(given) if case.startswith("scan") else _our_conv(given)
            for name, tensor in ours.items():
                reference = expected[case][name]
                error = (tensor - reference).norm() / reference.norm()
                assert error < 1e-5, (name, error.item())


def test_the_peer_stays_out_of_this_process() -> None:
    assert importlib.util.find_spec("mamba_ssm") is None
    assert importlib.util.find_spec("causal_conv1d") is None
