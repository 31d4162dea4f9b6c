"""What this machine has: processor, memory, devices and packages. Imports run in processes of their own, so
that one that crashes (a CUDA extension built for another torch) is a line of the report and not its end.
"""

import json
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

IMPORT_TIMEOUT = 180  # seconds; a cold import of torch from a network disk takes a minute
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"

# distribution: module
REQUIRED = {
    "torch": "torch",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "datasets": "datasets",
    "lm-eval": "lm_eval",
}
OPTIONAL = {
    "mamba-ssm": "mamba_ssm",
    "causal-conv1d": "causal_conv1d",
    "transformer-engine": "transformer_engine.pytorch",
    "vllm": "vllm",
}

_TORCH_CODE = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "threads": torch.get_num_threads(),
    "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    "cuda_build": torch.version.cuda,
    "devices": [
        {
            "name": (p := torch.cuda.get_device_properties(i)).name,
            "memory_bytes": p.total_memory,
            "capability": f"{p.major}.{p.minor}",
        }
        for i in range(torch.cuda.device_count() if cuda else 0)
    ],
}))
"""
_KERNELS_CODE = """
import json
import torch
from model.kernels.choice import describe
from model.precision.layers import describe_fp8
cuda = torch.cuda.is_available()
device, dtype = ("cuda", torch.bfloat16) if cuda else ("cpu", torch.float32)
rows = [*describe(device, dtype), describe_fp8(device)]
print(json.dumps([list(map(str, row)) for row in rows]))
"""


@dataclass(frozen=True)
class Package:
    """A package's version and whether it imports: `status` is ok, missing or broken; `note` says why."""

    name: str
    required: bool
    version: str | None
    status: str
    note: str = ""


def probe_packages() -> list[Package]:
    """Import each package that nano2 needs or can use."""
    every = [(name, module, True) for name, module in REQUIRED.items()]
    every += [(name, module, False) for name, module in OPTIONAL.items()]
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda item: _probe_package(*item), every))


def _probe_package(name: str, module: str, required: bool) -> Package:
    installed = installed_version(name)
    if installed is None and find_spec(module.partition(".")[0]) is None:
        return Package(name, required, None, "missing", "not installed")
    problem = run_python(f"import {module}")[1]
    return Package(name, required, installed, "broken" if problem else "ok", problem)


def probe_torch() -> tuple[dict[str, Any], str]:
    """Threads and CUDA devices as torch sees them, or why it could not be asked."""
    output, problem = run_python(_TORCH_CODE)
    return (json.loads(output) if not problem else {}), problem


def probe_kernels() -> tuple[list[list[str]], str]:
    """(layer kind, path, reason) from `model.kernels.describe`, or why it could not be asked."""
    output, problem = run_python(_KERNELS_CODE)
    return (json.loads(output) if not problem else []), problem


def run_python(code: str) -> tuple[str, str]:
    """Run code in a fresh interpreter: the last line that it printed, and in a few words why it failed, if
    it did."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            capture_output=True, text=True, errors="replace", timeout=IMPORT_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", f"did not end within {IMPORT_TIMEOUT} s"
    if done.returncode < 0:
        return "", f"crashed (signal {-done.returncode})"
    if done.returncode > 0:
        return "", (done.stderr.strip().splitlines() or ["failed without a message"])[-1]
    return (done.stdout.strip().splitlines() or [""])[-1], ""


def installed_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def probe_cpu() -> dict[str, Any]:
    """Name, cores of the machine, cores this process may use, and the bf16 instructions among the CPU's
    flags."""
    text = _read("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set(
        found[1].split()
        if (found := re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE))
        else ()
    )
    return {
        "name": name[1] if name else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "bf16": sorted(flags & {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}),
    }


def probe_memory() -> dict[str, int | None]:
    """Bytes of memory: total, available now, and the control group's limit if it has one."""
    sizes = {
        key: int(kib) * 1024
        for key, kib in re.findall(r"^(\w+):\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    }
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    return {
        "total_bytes": sizes.get("MemTotal"),
        "available_bytes": sizes.get("MemAvailable"),
        "limit_bytes": int(limit) if limit.isdecimal() else None,
    }


def constraint_drift(constraints: Path = CONSTRAINTS) -> list[dict[str, str]]:
    """Packages whose installed version is not the one that `constraints.txt` pins; empty where there is no
    file."""
    drift = []
    for name, pinned in re.findall(r"^([\w.-]+)==([^\s;#]+)", _read(constraints), re.MULTILINE):
        installed = installed_version(name)
        # 2.13.0+cpu is the same release as 2.13.0, built for another device
        if installed is not None and installed.partition("+")[0] != pinned.partition("+")[0]:
            drift.append({"package": name, "installed": installed, "pinned": pinned})
    return drift


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
