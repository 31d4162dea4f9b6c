"""Watching the FP8 products of a model for the first one that goes wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.layers.linear import Product
from model.precision.emulation import LARGEST
from model.precision.layers import products

SMALLEST_AMAX = LARGEST / torch.finfo(torch.float32).max
"""Below it float32 has no scale that would bring a tensor into the range of E4M3."""


@contextmanager
def watched(lm: HybridLM) -> Iterator[list[str]]:
    """The list gets the first fault of the passes meanwhile, as "LAYER: what is wrong", in the order in which things are
    computed: forward, then backward."""
    faults: list[str] = []
    layers = [(name, layer, layer.product) for name, layer in products(lm)]
    try:
        for name, layer, product in layers:
            assert product is not None
            layer.product = _watching(name, product, faults)
        yield faults
    finally:
        for _, layer, product in layers:
            layer.product = product


def _watching(name: str, product: Product, faults: list[str]) -> Product:
    def look(what: str, tensor: Tensor) -> None:
        if not faults and (problem := _problem(tensor)):
            faults.append(f"{name}: {what} {problem}")

    def look_at_gradient(what: str) -> Callable[[Tensor], None]:
        return lambda gradient: look(what, gradient)

    def multiply(x: Tensor, weight_FD: Tensor) -> Tensor:
        # Aliases, whose gradients are of this product alone.
        x, weight_FD = x.view_as(x), weight_FD.view_as(weight_FD)
        look("its input", x.detach())
        y = product(x, weight_FD)
        look("its output", y.detach())
        for what, tensor in (("output", y), ("input", x), ("weight", weight_FD)):
            if tensor.requires_grad:
                tensor.register_hook(look_at_gradient(f"the gradient of its {what}"))
        return y

    return multiply


def _problem(tensor: Tensor) -> str:
    amax = float(tensor.abs().amax()) if tensor.numel() else 0.0
    if amax != amax:
        return "has a NaN"
    if amax == float("inf"):
        return "has an infinity"
    return f"is too small for a scale, {amax:.1e} at most" if 0 < amax < SMALLEST_AMAX else ""
