"""Runs mamba-ssm's chunk scan and causal-conv1d's reference on a CPU, in a process of its own.

    python mamba_ssm_oracle.py INPUTS.safetensors OUTPUTS.safetensors

with the folder of `install_mamba_ssm.sh` on PYTHONPATH, TRITON_INTERPRET=1 (Triton kernels in numpy) and
MAMBA_DETERMINISTIC=1 (no autotuning, which would ask for a GPU). Tensors are named CASE/ARGUMENT, results likewise.
A case named `scan...` gets x, dt, A, B, C, D, dt_bias, upstream and maybe initial_states, seq_idx; chunk size 16. A case
named `conv...` gets x, weight and maybe bias, seq_idx, initial_states, upstream.
"""

import contextlib
import importlib.machinery
import importlib.util
import sys
import types

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

CHUNK = 16


def import_peers() -> tuple[types.ModuleType, types.ModuleType]:
    """Both packages import their CUDA extension first of all; an empty package, an empty extension stand in."""
    spec = importlib.util.find_spec("mamba_ssm")
    assert spec is not None
    package = types.ModuleType("mamba_ssm")
    package.__path__ = list(spec.submodule_search_locations or [])
    package.__spec__ = importlib.machinery.ModuleSpec("mamba_ssm", None, is_package=True)
    sys.modules["mamba_ssm"] = package
    extension = types.ModuleType("causal_conv1d_cuda")
    extension.__spec__ = importlib.machinery.ModuleSpec("causal_conv1d_cuda", None)
    sys.modules["causal_conv1d_cuda"] = extension
    # The kernels' launchers look a device up; the interpreter has none.
    torch.cuda.device = lambda *_: contextlib.nullcontext()
    torch.cuda.get_device_properties = lambda *_: types.SimpleNamespace(multi_processor_count=1)
    import causal_conv1d.causal_conv1d_interface as convolution
    import mamba_ssm.ops.triton.ssd_combined as scan

    return scan, convolution


def run_scan(scan: types.ModuleType, given: dict[str, Tensor]) -> dict[str, Tensor]:
    upstream = given.pop("upstream")
    seq_idx = given.pop("seq_idx", None)
    leaves = {name: value.requires_grad_() for name, value in given.items()}
    y, final = scan.mamba_chunk_scan_combined(
        **leaves, chunk_size=CHUNK, seq_idx=seq_idx, dt_softplus=True, return_final_states=True
    )
    (y * upstream).sum().backward()
    gradients = {f"grad_{name}": leaf.grad for name, leaf in leaves.items()}
    return {"y": y.detach(), "final": final.detach(), **gradients}


def run_conv(convolution: types.ModuleType, given: dict[str, Tensor]) -> dict[str, Tensor]:
    upstream = given.pop("upstream")
    seq_idx = given.pop("seq_idx", None)
    leaves = {name: value.requires_grad_() for name, value in given.items()}
    y = convolution.causal_conv1d_ref(**leaves, seq_idx=seq_idx, activation="silu")
    (y * upstream).sum().backward()
    return {"y": y.detach(), **{f"grad_{name}": leaf.grad for name, leaf in leaves.items()}}


def main(inputs: str, outputs: str) -> None:
    scan, convolution = import_peers()
    cases: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(inputs).items():
        case, _, argument = key.partition("/")
        cases.setdefault(case, {})[argument] = tensor
    results = {}
    for case, given in cases.items():
        made = run_scan(scan, given) if case.startswith("scan") else run_conv(convolution, given)
        results.update({f"{case}/{name}": tensor.contiguous() for name, tensor in made.items()})
    save_file(results, outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
