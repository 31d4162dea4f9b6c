"""Which path each operation takes: the one place where that is decided, and where it is said why.

Two roads: plain PyTorch, which serves every device and dtype, and the fused kernels of `model.kernels.cuda`, which serve
bfloat16 on an NVIDIA GPU. `auto` takes the fused ones where they can be had; `fused` insists on them.
"""

import importlib
import os
from functools import cache
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from model.config import HybridConfig
from model.errors import PlanRefusedError

Kernels = Literal["auto", "fused", "pytorch"]

TRITON = ("triton",)
MAMBA = ("triton", "mamba_ssm", "causal_conv1d")
FEWEST_CHUNK = 16
CHANNELS = 8
_INSTALL = "pip install mamba-ssm causal-conv1d --no-build-isolation"

_wanted: Kernels = "auto"


class KernelPath(NamedTuple):
    """The path that one operation takes on a device, and why."""

    operation: str
    path: str
    reason: str


def use(kernels: Kernels, device: torch.device, dtype: torch.dtype) -> None:
    """Take these paths from now on, in this process. PlanRefusedError if fused ones are asked for and cannot be had."""
    global _wanted
    assert kernels in get_args(Kernels)
    if kernels == "fused" and (problem := _problem(MAMBA, device.type, dtype)):
        reason, remedy = problem
        raise PlanRefusedError(f"no fused kernels: {reason}", where="kernels", remedy=remedy)
    _wanted = kernels


def fused(x: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Do Triton kernels serve the work on x, whose result has this dtype (by default that of x)?"""
    return x.is_cuda and _serves(TRITON, dtype or x.dtype)


def fused_scan(x: Tensor, chunk_size: int) -> bool:
    """Does mamba-ssm serve a scan in such chunks?"""
    return x.is_cuda and chunk_size >= FEWEST_CHUNK and _serves(MAMBA, x.dtype)


def fused_conv(x: Tensor, taps: int) -> bool:
    """Does causal-conv1d serve a convolution over x [..., channels]?"""
    return x.is_cuda and x.shape[-1] % CHANNELS == 0 and 2 <= taps <= 4 and _serves(MAMBA, x.dtype)


def fused_mamba(x: Tensor, channels: int, taps: int, chunk_size: int) -> bool:
    """Do both serve a block whose input is x, all in one?"""
    return fused_scan(x, chunk_size) and channels % CHANNELS == 0 and 2 <= taps <= 4


def varlen_attention(query: Tensor) -> bool:
    """Does FlashAttention's kernel for rows of any length serve these queries [..., head_dim]?"""
    return (
        query.is_cuda
        and query.dtype == torch.bfloat16
        and _wanted != "pytorch"
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and _has_varlen()
    )


def _serves(packages: tuple[str, ...], dtype: torch.dtype) -> bool:
    return _wanted != "pytorch" and dtype == torch.bfloat16 and not any(map(_why_not, packages))


def _problem(packages: tuple[str, ...], device: str, dtype: torch.dtype) -> tuple[str, str] | None:
    """Why the fused kernels of these packages cannot be had, and what to do about it."""
    if device != "cuda" or not torch.cuda.is_available():
        return "they are for NVIDIA GPUs", "run where one is, or leave --kernels at auto"
    if dtype != torch.bfloat16:
        return (
            f"they compute in bfloat16, not {str(dtype).removeprefix('torch.')}",
            "pass --precision bfloat16",
        )
    for package in packages:
        if why := _why_not(package):
            return why, f"install it ({_INSTALL}), or leave --kernels at auto"
    return None


@cache
def _why_not(package: str) -> str:
    """Why a package does not import; empty if it does."""
    # Else Triton tries every variant of a kernel anew in each process.
    os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")
    try:
        importlib.import_module(package)
    except ImportError as error:
        return f"{package} does not import ({error})"
    except Exception as error:  # whatever a package meets that was built for another PyTorch or GPU
        return f"{package} fails on import ({type(error).__name__}: {error})"
    return ""


@cache
def _has_varlen() -> bool:
    try:
        importlib.import_module("torch.nn.attention.varlen")
    except ImportError:
        return False
    return torch.cuda.get_device_capability() >= (8, 0)


def describe(device: str, dtype: torch.dtype, shape: HybridConfig | None = None) -> list[KernelPath]:
    """What `nano2 doctor` prints and each run logs: the paths for a device type and an activation dtype.

    With the shape of a model (a HybridConfig), those that it takes.
    """
    from model.kernels.matmul import path

    name = str(dtype).removeprefix("torch.")
    products = path(torch.device(device), dtype)
    if products == "oneDNN inner product":
        why_products = "fastest float32 product of PyTorch's CPU build on a processor with AVX-512"
    elif products.endswith("in float32"):
        why_products = "this processor has no bfloat16 products that oneDNN could use"
    else:
        why_products = f"native for {name} on {device}"
    triton, mamba = (_choose(packages, device, dtype) for packages in (TRITON, MAMBA))
    conv = scan = mamba
    if shape is not None and mamba is None:
        if shape.conv_width % CHANNELS:
            conv = f"causal-conv1d takes channels in eights, not {shape.conv_width}"
        if shape.chunk_size < FEWEST_CHUNK:
            scan = f"mamba-ssm's chunks have {FEWEST_CHUNK} tokens or more, not {shape.chunk_size}"
    paths = [
        _path("mamba: convolution", conv, "causal-conv1d", "PyTorch shifted products"),
        _path("mamba: scan", scan, "mamba-ssm chunk scan", "PyTorch chunked scan"),
        _path(
            "mamba: gated norm",
            triton,
            "Triton, with its backward pass in one",
            "PyTorch, float32 statistics",
        ),
        _path("norms", triton, "Triton, one read a pass", "PyTorch, float32 statistics"),
        _path("squared ReLU", triton, "Triton, one read a pass", "PyTorch, in place"),
        KernelPath(
            "attention", "PyTorch scaled_dot_product_attention", "picks its kernel by device and mask"
        ),
    ]
    if triton is None and _has_varlen():
        paths.append(
            KernelPath("attention in packed rows", "FlashAttention for rows of any length", "no mask")
        )
    return [
        *paths,
        KernelPath("linear layers", products, why_products),
        _decoding(device, dtype),
        _path("loss", triton, "Triton cross-entropy in chunks", "PyTorch cross-entropy in chunks"),
    ]


def _choose(packages: tuple[str, ...], device: str, dtype: torch.dtype) -> str | None:
    """Why the fused kernels are not taken; None if they are."""
    if _wanted == "pytorch":
        return "--kernels pytorch"
    problem = _problem(packages, device, dtype)
    return None if problem is None else problem[0]


def _path(operation: str, problem: str | None, fused: str, plain: str) -> KernelPath:
    if problem is None:
        return KernelPath(operation, fused, "bfloat16 on an NVIDIA GPU")
    return KernelPath(operation, plain, f"no fused kernels: {problem}")


def _decoding(device: str, dtype: torch.dtype) -> KernelPath:
    if device == "cpu" and dtype in (torch.float32, torch.bfloat16):
        return KernelPath("decoding", "Numba loops", "small work; PyTorch's operations where it is large")
    return KernelPath(
        "decoding",
        "PyTorch's operations",
        f"there are no loops for {str(dtype).removeprefix('torch.')} on {device}",
    )
