"""The device of a run: which one, how fast it multiplies, how much memory it has and has used."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import torch

from model.errors import PlanRefusedError
from model.kernels.matmul import linear


@dataclass(frozen=True)
class Accelerator:
    """A GPU as its data sheet has it. memory: bytes; flops_per_s: of dense bfloat16 matrix products."""

    name: str
    memory: int
    flops_per_s: float


_assumed: ContextVar[Accelerator | None] = ContextVar("assumed", default=None)


@contextmanager
def assumed_accelerator(accelerator: Accelerator) -> Iterator[None]:
    """Plans made in here are for such a GPU, whatever this machine has. Nothing is measured, and nothing can run."""
    token = _assumed.set(accelerator)
    try:
        yield
    finally:
        _assumed.reset(token)


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device. PlanRefusedError if a GPU was asked for and there is none."""
    if _assumed.get() and name != "cpu":
        return torch.device("cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise PlanRefusedError(
            "no CUDA device is there", where="device", remedy="pass --device cpu, or run where a GPU is"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations a second of a large matrix product here, measured in well under a second.

    What MFU is a share of: the rate that this machine reaches, not the one on its data sheet.
    """
    if (accelerator := _assumed.get()) and device.type == "cuda":
        return accelerator.flops_per_s
    if (device.type, dtype) not in _rates:
        _rates[device.type, dtype] = _measured_rate(device, dtype)
    return _rates[device.type, dtype]


_rates: dict[tuple[str, torch.dtype], float] = {}


def tell_matrix_rate(device: torch.device, dtype: torch.dtype, rate: float) -> None:
    """What `matrix_rate` answers from now on: for a process that measures something else, in which it would be seen."""
    _rates[device.type, dtype] = rate


def _measured_rate(device: torch.device, dtype: torch.dtype) -> float:
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        synchronize(device)
        started = time.perf_counter()
        linear(a, b)
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def available_bytes(device: torch.device) -> int:
    """Memory that a run can still take on the device."""
    if (accelerator := _assumed.get()) and device.type == "cuda":
        return accelerator.memory
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [_meminfo("MemAvailable")]
    for limit, usage in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            limits.append(int(Path(limit).read_text()) - int(Path(usage).read_text()))
        except (OSError, ValueError):  # no such controller, or no limit ("max")
            continue
    return min(limits)


def used_bytes(device: torch.device) -> int:
    """Peak memory of this process on the device so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _meminfo(key: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {key}")
