"""The operations under the layers, each with one dispatch point, and `describe`, which says which path each one takes."""

from typing import NamedTuple


class KernelPath(NamedTuple):
    """The path that one operation of a layer kind takes on a device, and why."""

    operation: str
    path: str
    reason: str


def describe(device: str = "cpu", dtype: str = "float32") -> list[KernelPath]:
    """What `nano2 doctor` prints and each run logs: the paths for a device type and an activation dtype."""
    import torch

    from model.kernels.matmul import path

    products = path(torch.device(device), getattr(torch, dtype))
    if products == "oneDNN inner product":
        why_products = "fastest float32 product of PyTorch's CPU build on a processor with AVX-512"
    elif products.endswith("in float32"):
        why_products = "this processor has no bfloat16 products that oneDNN could use"
    else:
        why_products = f"native for {dtype} on {device}"
    return [
        KernelPath(
            "mamba: convolution", "PyTorch shifted products", "the one path there is, on every device"
        ),
        KernelPath("mamba: scan", "PyTorch chunked scan", "the one path there is, on every device"),
        KernelPath(
            "attention", "PyTorch scaled_dot_product_attention", "picks its kernel by device and mask"
        ),
        KernelPath("linear layers", products, why_products),
        KernelPath("norms", "PyTorch, float32 statistics", "the one path there is, on every device"),
        _decoding(device, dtype),
        KernelPath("loss", "PyTorch chunked cross-entropy", "never holds all logits"),
    ]


def _decoding(device: str, dtype: str) -> KernelPath:
    if device == "cpu" and dtype in ("float32", "bfloat16"):
        return KernelPath("decoding", "Numba loops", "small work; PyTorch's operations where it is large")
    return KernelPath("decoding", "PyTorch's operations", f"there are no loops for {dtype} on {device}")
