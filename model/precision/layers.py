"""A model whose eligible linear layers multiply in FP8."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model.hybrid import HybridLM
from model.kernels.choice import KernelPath
from model.layers.linear import Linear
from model.precision.eligibility import fp8_layers
from model.precision.emulation import Emulation
from model.precision.product import Arithmetic, Product
from model.precision.scaling import Scaling


def use_fp8(lm: HybridLM, scaling: Scaling, *, tensor_ranks: int = 1, sharded: bool = False) -> str:
    """Let the eligible layers multiply in FP8 from now on; says in words by what.

    Parameters and their names stay as they are. sharded: FSDP2 gathers the weights for one pass at a time. UsageError if no
    layer is eligible; PlanRefusedError on a GPU that lacks the products.
    """
    layers = fp8_layers(lm.config, tensor_ranks=tensor_ranks)
    arithmetic, by = _arithmetic(lm.device.type, scaling)
    for layer in layers:
        linear = lm.get_submodule(layer.name)
        assert isinstance(linear, Linear)
        linear.product = Product(arithmetic, keep_weight=not sharded)
    return by


def has_fp8(lm: HybridLM) -> bool:
    """Does any layer multiply in FP8?"""
    return next(products(lm), None) is not None


def products(lm: HybridLM) -> Iterator[tuple[str, Linear]]:
    """The layers that multiply in FP8, by name, in the order of the forward pass."""
    for name, module in lm.named_modules():
        if isinstance(module, Linear) and module.product is not None:
            yield name, module


@contextmanager
def without_fp8(lm: HybridLM) -> Iterator[None]:
    """All layers multiply in the model's compute dtype meanwhile; no quantized weight takes memory."""
    layers = [(layer, layer.product) for _, layer in products(lm)]
    try:
        for layer, product in layers:
            layer.product = None
            if isinstance(product, Product):
                product.release()
        yield
    finally:
        for layer, product in layers:
            layer.product = product


def describe_fp8(device: str) -> KernelPath:
    """Who would compute FP8 products on a type of device, for `nano2 doctor`."""
    if device != "cuda":
        return KernelPath("FP8 products", "emulated in PyTorch", "for what they do to a model, not for speed")
    from model.precision.transformer_engine import missing

    problem = missing("blocks")
    if problem is not None:
        return KernelPath("FP8 products", "none", problem.what)
    return KernelPath("FP8 products", "Transformer Engine", "it is installed, and this GPU has such products")


def _arithmetic(device: str, scaling: Scaling) -> tuple[Arithmetic[Any], str]:
    if device == "cuda":
        from model.precision.transformer_engine import TransformerEngine

        return TransformerEngine(scaling), "Transformer Engine"
    return Emulation(scaling), "an emulation: the numerics of FP8, slower than float32"
